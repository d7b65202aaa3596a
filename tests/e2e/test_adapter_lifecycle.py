"""A new adapter's whole way on the real engine, as the README walks it, with OpenAI's own client.

Uploaded, trained beside serving, measured over the endpoint, refused, promoted, tried, lost with the engine and there
again; then a bad version is forced on trial, voted down and rolled back without anyone asking. Requests are made all
the time, and none fails but those that ran when we killed the engine ourselves.
"""

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import openai
import pytest

from adapters.aliases import CANARY, PROD
from adapters.registry import Registry
from tests.conftest import HOME, ROOT, Stack, run_command
from tests.e2e.callers import Callers
from tests.e2e.readme import Block, walk

pytestmark = pytest.mark.e2e
USERS = [f"user-{number}" for number in range(40)]


@pytest.fixture
async def client(stack: Stack) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=180) as sdk:
        yield sdk


@pytest.fixture
async def registry(client: openai.AsyncOpenAI) -> AsyncIterator[Registry]:
    """With the router's aliases and versions as they are put back afterwards: other tests route by it."""
    async for job in client.fine_tuning.jobs.list():
        if job.status in ("queued", "validating_files", "running", "paused"):  # of a run that was broken off
            await client.fine_tuning.jobs.cancel(job.id)
    found = Registry(HOME / "adapters")
    before, prod = found.versions("router"), found.aliases("router")[PROD]
    yield found
    if CANARY in found.aliases("router"):
        await command("rollback", "router", "--alias", CANARY)
    if found.aliases("router")[PROD] != prod:
        await command("promote", f"router@{prod}", "--force", "--reason", "a test was broken off")
    for version in set(found.versions("router")) - set(before):
        await command("rm", f"router@{version}")


async def command(*arguments: str) -> tuple[int, str]:
    done = await asyncio.to_thread(run_command, "adapters", *arguments)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


async def paste(stack: Stack, block: Block, names: str = "") -> str:
    """Run a block of the README, where `names` was pasted before; returns what it printed."""
    text = f"{names}\n{block.for_stack(stack)}"
    program = ["/bin/bash", "-euc"] if block.language == "bash" else [sys.executable, "-c"]
    process = await asyncio.create_subprocess_exec(
        *program,
        text,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=ROOT,
        env={**os.environ, "BREAKEVEN_HOME": str(HOME), "COLUMNS": "120"},
    )
    printed = (await process.communicate())[0].decode()
    assert process.returncode == 0, printed
    return printed


async def test_from_upload_to_automatic_roll_back(stack: Stack, client: openai.AsyncOpenAI, registry: Registry) -> None:
    sample = registry.resolve("router").engine_name
    check, train, measure, release, vote, back = walk()
    async with Callers(client, "intents") as callers:
        assert "200 examples" in await paste(stack, check)
        callers.training = True
        names = (await paste(stack, train)).splitlines()[-1]
        callers.training = False
        few, good = (each.partition("=")[2] for each in names.split())
        await were_trained(client, few, good)

        said = await paste(stack, measure, names)
        assert "refused\n" in said and re.search(r"intents\.accuracy .*at least 0\.7", said)
        assert few not in {call.adapter for call in callers.calls}
        assert registry.aliases("router") == {PROD: version_of(sample), CANARY: version_of(good)}
        arms = await arms_of_all(client)
        assert set(arms.values()) == {(PROD, sample), (CANARY, good)}
        outage = await kill_the_engine(stack)
        # Both versions are there again, and everyone is answered by the one that answered before.
        assert await arms_of_all(client) == arms

        assert (await command("promote", few, "--force"))[0] == 1  # without a reason
        await paste(stack, release, names)
        assert registry.aliases("router") == {PROD: version_of(good), CANARY: version_of(few)}
        assert f"{few} down" in await paste(stack, vote)
        assert registry.aliases("router") == {PROD: version_of(good)}
        it_was_the_test(registry.log.decisions("router")[-1], few)
        assert "by canary test" in await paste(stack, back)
        assert registry.aliases("router") == {PROD: version_of(sample)}
        assert set((await arms_of_all(client)).values()) == {(PROD, sample)}
    nobody_failed(callers, outage)
    assert {sample, good} <= {call.adapter for call in callers.calls}
    assert (await command("rm", few))[0] == 0
    assert few not in (await command("list"))[1]


def version_of(engine_name: str) -> str:
    return engine_name.partition("@")[2]


async def were_trained(client: openai.AsyncOpenAI, few: str, good: str) -> None:
    """The jobs and their files are as OpenAI's client knows them; the files are not kept for the next run."""
    jobs = [job async for job in client.fine_tuning.jobs.list(limit=2)][:2]
    assert [(job.status, job.fine_tuned_model) for job in jobs] == [("succeeded", good), ("succeeded", few)]
    events = [event.message async for event in client.fine_tuning.jobs.list_events(jobs[0].id)]
    assert events[-1] == "Validating the files" and events[0].startswith("The job has succeeded")
    assert any("training loss" in each for each in events)
    for job in jobs:
        assert (await client.files.retrieve(job.training_file)).purpose == "fine-tune"
        await client.files.delete(job.training_file)


async def arms_of_all(client: openai.AsyncOpenAI) -> dict[str, tuple[str, str]]:
    """The alias and the version that answer each user, now; a few at a time, as the callers go on beside them."""
    places = asyncio.Semaphore(6)

    async def one(user: str) -> tuple[str, str]:
        async with places:
            return await arm(client, user)

    return dict(zip(USERS, await asyncio.gather(*map(one, USERS)), strict=True))


async def arm(client: openai.AsyncOpenAI, user: str) -> tuple[str, str]:
    question: Any = [{"role": "user", "content": "When does my wage arrive?"}]
    answer = await client.chat.completions.create(model="intents", messages=question, user=user)
    found: dict[str, Any] = answer.model_dump()["breakeven"]
    return found["alias"], found["adapter"]


def it_was_the_test(decision: Mapping[str, Any], bad: str) -> None:
    assert (decision["action"], decision["who"]) == ("rollback", "canary test")
    assert decision["seen"]["source"] == "vote" and decision["seen"]["canary"]["version"] == bad
    assert decision["seen"]["canary"]["mean"] < decision["seen"]["prod"]["mean"]
    assert decision["seen"]["e_value"] >= decision["seen"]["threshold"]


def nobody_failed(callers: Callers, outage: tuple[float, float, float]) -> None:
    """But who was being answered when the engine died; until it was back, callers were told to come again."""
    killed, noticed, back = outage
    assert len(callers.calls) > 50
    for call in callers.calls:
        if call.turned_away:
            assert call.began <= back and call.ended >= killed, call
        elif call.adapter is None:
            assert call.began <= noticed and call.ended >= killed, call


async def kill_the_engine(stack: Stack) -> tuple[float, float, float]:
    """When it was killed, when the gateway said so, and when it was ready again."""
    times = [time.monotonic()]
    os.kill(stack.engine_core(), signal.SIGKILL)
    async with aiohttp.ClientSession() as http:
        for wanted in (503, 200):
            deadline = time.monotonic() + 600
            while True:
                async with http.get(f"{stack.url}/readyz") as response:
                    if response.status == wanted:
                        break
                assert time.monotonic() < deadline, f"/readyz did not become {wanted}"
                await asyncio.sleep(0.05)
            times.append(time.monotonic())
    killed, noticed, back = times
    return killed, noticed, back
