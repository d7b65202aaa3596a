"""Two gateways over one registry of adapters and one PostgreSQL: what one decides the other does, and votes count once
for both."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest

from adapters.registry import AdapterVersion
from tests.servers import Cluster
from tests.serving.adapter_folders import installed
from tests.serving.gateways import Running, running, settings_for
from tests.serving.test_canary import vote
from tests.serving.test_rollout import asked, manage

MODELS = {"tone": {"adapter": "tone", "canary": {"share": 0.5}}, "plain": {}}
SEEN_S = 2.0
PATIENCE_S = 20.0


@dataclass(frozen=True)
class Two:
    """Two gateways with a client each, and the versions that are installed."""

    gateways: list[Running]
    clients: list[openai.AsyncOpenAI]
    versions: list[AdapterVersion]
    root: Path

    def decisions(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.root / "audit.jsonl").read_text().splitlines()]

    async def adapter(self, at: int) -> str:
        return str((await asked(self.clients[at]))["adapter"])


@pytest.fixture
async def two(servers: tuple[str, Cluster], tmp_path: Path) -> AsyncIterator[Two]:
    shared = {"database_url": servers[1].url(), "retrieval": {"chroma_url": servers[0]}}
    versions = installed(tmp_path / "one", range(3))
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "adapters").symlink_to(tmp_path / "one" / "adapters")
    async with AsyncExitStack() as stack:
        gateways = [
            await stack.enter_async_context(running(settings_for(tmp_path / name, models=MODELS, **shared)))
            for name in ("one", "two")
        ]
        clients = [
            await stack.enter_async_context(
                openai.AsyncOpenAI(base_url=f"{each.url}/v1", api_key="none", max_retries=0)
            )
            for each in gateways
        ]
        yield Two(gateways, clients, versions, tmp_path / "one" / "adapters")


async def becomes(gateway: Running, read: Callable[[Running], object], wanted: object) -> float:
    """Seconds until it is so."""
    began = time.monotonic()
    async with asyncio.timeout(PATIENCE_S):
        while read(gateway) != wanted:  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.02)
    return time.monotonic() - began


def prod(gateway: Running) -> str | None:
    adapter = gateway.gateway.catalogue.resolve("tone").adapter
    return adapter.engine_name if adapter else None


def canary(gateway: Running) -> str | None:
    trial = gateway.gateway.catalogue.resolve("tone").canary
    return trial.engine_name if trial else None


async def test_what_one_decides_the_other_answers_with_soon_and_no_request_fails(two: Two) -> None:
    one, other = two.gateways
    first, second, third = (each.engine_name for each in two.versions)
    stop, answered = asyncio.Event(), list[str]()

    async def ask() -> None:
        while not stop.is_set():
            answered.append(await two.adapter(1))

    asking = [asyncio.create_task(ask()) for _ in range(3)]
    await manage(one, "tone/promote", version=two.versions[1].version)
    took = await becomes(other, prod, second)
    await manage(other, "tone/rollback")
    took = max(took, await becomes(one, prod, first))
    await manage(one, "tone/promote", version=two.versions[2].version, alias="canary")
    took = max(took, await becomes(other, canary, third))
    assert (await asked(two.clients[1], user="user-1"))["alias"] in ("prod", "canary")
    await manage(other, "tone/rollback", alias="canary")
    took = max(took, await becomes(one, canary, None))
    stop.set()
    await asyncio.gather(*asking)
    assert took < SEEN_S
    assert {first, second} <= set(answered) <= {first, second, third}


async def test_decisions_at_once_end_the_same_everywhere_and_are_all_on_record(two: Two) -> None:
    versions = [each.version for each in two.versions]
    wishes = [manage(two.gateways[n % 2], "tone/promote", version=versions[n % 3]) for n in range(12)]
    assert {status for status, _ in await asyncio.gather(*wishes)} == {200}
    now = two.gateways[0].gateway.rollout.desk.registry.aliases("tone")["prod"]
    for each in two.gateways:
        await becomes(each, prod, f"tone@{now}")
    made = [each for each in two.decisions() if each["alias"] == "prod"]
    assert [each["from"] for each in made[1:]] == [each["to"] for each in made[:-1]]
    assert made[-1]["to"] == now


async def test_the_canary_s_test_counts_the_votes_of_both_and_ends_it_once(two: Two) -> None:
    good, bad = two.versions[0], two.versions[1]
    await manage(two.gateways[0], "tone/promote", version=bad.version, alias="canary")
    await becomes(two.gateways[1], canary, bad.engine_name)
    votes = 0
    for number in range(200):
        at = number % 2
        answer = await asked(two.clients[at], user=f"user-{number}")
        opinion = "up" if answer["alias"] == "prod" else "down"
        assert (await vote(two.gateways[at], request_id=answer["request_id"], vote=opinion))[0] == 200
        votes += 1
        if number == 5:
            # As many at each as both were told.
            for each in two.gateways:
                await becomes(each, counted, votes)
        if "canary" not in two.gateways[0].gateway.rollout.desk.registry.aliases("tone"):
            break
    assert votes < 60
    for each in two.gateways:
        await becomes(each, canary, None)
        await each.gateway.rollout.settled()
    ended = [each for each in two.decisions() if each["action"] == "rollback"]
    assert [(each["who"], each["from"], each["to"]) for each in ended] == [("canary test", bad.version, None)]
    assert {await two.adapter(0), await two.adapter(1)} == {good.engine_name}


async def test_a_vote_may_be_given_elsewhere_and_counts_once(two: Two) -> None:
    answer = await asked(two.clients[0])
    async with asyncio.timeout(PATIENCE_S):  # the ledger gets it within a second
        while (await vote(two.gateways[1], request_id=answer["request_id"], vote="up"))[0] == 404:  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.1)
    told = await asyncio.gather(*(vote(each, request_id=answer["request_id"], vote="up") for each in two.gateways))
    assert [status for status, _ in told] == [409, 409]


async def test_without_postgresql_answers_go_on_and_votes_are_refused(two: Two, servers: tuple[str, Cluster]) -> None:
    answer = await asked(two.clients[0])
    servers[1].stop()
    try:
        assert await two.adapter(0) == two.versions[0].engine_name
        status, said = await vote(two.gateways[0], request_id=answer["request_id"], vote="up")
        assert (status, said["error"]["type"]) == (503, "service_unavailable_error")
    finally:
        servers[1].start()
    async with asyncio.timeout(PATIENCE_S):
        while (await vote(two.gateways[0], request_id=answer["request_id"], vote="up"))[0] != 200:  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.1)
    await manage(two.gateways[0], "tone/promote", version=two.versions[1].version)
    await becomes(two.gateways[1], prod, two.versions[1].engine_name)


def counted(gateway: Running) -> int:
    return sum(each["prod"]["n"] + each["canary"]["n"] for each in gateway.gateway.quality.state())
