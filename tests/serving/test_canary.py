"""A canary answers its share, always of the same callers; what they think of it is kept, and ends it if it is worse."""

import asyncio
import sqlite3
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from adapters.registry import Registry
from serving.database.opening import tables
from serving.rollout.desk import Desk
from serving.rollout.feedback import SCHEMA, FeedbackStore
from serving.sections import Canary
from tests.serving.adapter_folders import installed
from tests.serving.gateways import Running, running, settings_for
from tests.serving.tenants import tenants
from tests.serving.test_rollout import ASK, MODELS, asked, manage, serving

HALF = {"tone": {"adapter": "tone", "canary": {"share": 0.5}}, "plain": {}}


async def vote(stack: Running, key: str | None = None, **fields: Any) -> tuple[int, dict[str, Any]]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/feedback", json=fields, headers=headers) as response,
    ):
        return response.status, await response.json()


def aliases(stack: Running) -> dict[str, str]:
    return stack.gateway.rollout.desk.registry.aliases("tone")


def metric(stack: Running, name: str, **labels: str) -> float | None:
    return stack.gateway.metrics.registry.get_sample_value(name, labels)


async def test_the_share_is_sticky_by_user_and_survives_a_restart(tmp_path: Path) -> None:
    prod, canary = installed(tmp_path, range(2))
    users = [f"user-{number}" for number in range(120)]
    seen = []
    for _ in range(2):
        async with serving(tmp_path, HALF) as (stack, client):
            if "canary" not in aliases(stack):
                assert (await manage(stack, "tone/promote", version=canary.version, alias="canary"))[0] == 200
            answers = [await asked(client, user=user) for user in users]
            assert {(each["adapter"], each["alias"]) for each in answers} == {
                (prod.engine_name, "prod"),
                (canary.engine_name, "canary"),
            }
            seen.append([each["alias"] for each in answers])
            assert [(await asked(client, user=user))["alias"] for user in users[:20]] == seen[-1][:20]
    assert seen[0] == seen[1]
    assert 40 <= Counter(seen[0])["canary"] <= 80  # binomial(120, .5): outside once in 3,000 canaries


async def test_without_a_user_the_key_decides(tmp_path: Path) -> None:
    _, canary = installed(tmp_path, range(2))
    async with serving(tmp_path, HALF) as (stack, _):
        await manage(stack, "tone/promote", version=canary.version, alias="canary")
        keys = [stack.gateway.keys.create("local", ["everyone"], "user") for _ in range(24)]
        arms = []
        for key in keys:
            async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0) as one:
                arms.append({(await asked(one))["alias"] for _ in range(3)})
        assert all(len(arm) == 1 for arm in arms)
        assert set.union(*arms) == {"prod", "canary"}


async def test_a_worse_canary_is_rolled_back_by_votes_across_a_restart(tmp_path: Path) -> None:
    prod, canary = installed(tmp_path, range(2))
    votes, last = 0, dict[str, Any]()
    for life in range(2):
        async with serving(tmp_path, HALF) as (stack, client):
            if life == 0:
                await manage(stack, "tone/promote", version=canary.version, alias="canary")
            else:
                # What was voted before the restart counts.
                (state, _) = stack.gateway.quality.state()
                assert state["canary"]["n"] + state["prod"]["n"] == votes
            for number in range(200):
                answer = await asked(client, user=f"user-{life}-{number}")
                good = answer["alias"] == "prod"
                status, said = await vote(stack, request_id=answer["request_id"], vote="up" if good else "down")
                assert (status, said["adapter"]) == (200, answer["adapter"])
                votes += 1
                await stack.gateway.rollout.settled()
                if "canary" not in aliases(stack) or (life == 0 and number == 3):
                    break
            if life == 1:
                assert aliases(stack) == {"prod": prod.version}
                assert {(await asked(client, user=f"after-{each}"))["alias"] for each in range(20)} == {"prod"}
                last = (await manage(stack, "tone", "GET"))[1]["decisions"][-1]
    assert (last["action"], last["who"], last["from"], last["to"]) == ("rollback", "canary test", canary.version, None)
    numbers = last["seen"]
    assert (numbers["source"], numbers["prod"]["mean"], numbers["canary"]["mean"]) == ("vote", 1.0, 0.0)
    assert numbers["e_value"] >= numbers["threshold"] == 40
    assert votes < 60


async def test_a_canary_that_is_as_good_stays(tmp_path: Path) -> None:
    _, canary = installed(tmp_path, range(2))
    async with serving(tmp_path, HALF) as (stack, client):
        await manage(stack, "tone/promote", version=canary.version, alias="canary")
        for number in range(60):
            answer = await asked(client, user=f"user-{number}")
            await vote(stack, request_id=answer["request_id"], score=0.5 + (number % 5) / 10)
        assert aliases(stack)["canary"] == canary.version
        # Becoming prod ends the trial.
        await manage(stack, "tone/promote", version="canary")
        assert aliases(stack) == {"prod": canary.version}
        assert stack.gateway.quality.state() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_are_checked_on_their_own(tmp_path: Path, stream: bool) -> None:
    (prod,) = installed(tmp_path, [1])
    models = {"tone": {"adapter": "tone", "canary": {"pattern": "one two three one two three"}}}
    # The simulator repeats the question.
    async with serving(tmp_path, models, simulated_tokens=6) as (stack, client):

        async def answer(**options: Any) -> None:
            found: Any = await client.chat.completions.create(model="tone", messages=ASK, stream=stream, **options)
            if stream:
                async for _ in found:
                    pass

        await answer()
        await answer(max_tokens=6)
        await answer(max_tokens=5)  # cut off by the client, which says nothing about the version
        await answer(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {}}})
        if not stream:
            await client.responses.create(model="tone", input="one two three")
            await client.completions.create(model="tone", prompt="one two three")
        await stack.gateway.quality.checked()
        labels = {"model": "tone", "adapter": prod.engine_name, "source": "check"}
        assert metric(stack, "breakeven_version_scored_total", **labels) == (3 if stream else 5)
        assert metric(stack, "breakeven_version_score_total", **labels) == (2 if stream else 4)


async def test_a_vote_is_for_ones_own_tenant_and_counts_once(tmp_path: Path) -> None:
    async with tenants(tmp_path) as all_of:
        stack, url = all_of.stack, f"{all_of.stack.url}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=all_of.user.api_key) as client:
            request = (await asked(client, "plain"))["request_id"]
            abstained = (await asked(client, "books"))["request_id"]
        mine, theirs = all_of.ours.api_key, all_of.theirs.api_key
        unknown = await vote(stack, theirs, request_id="req-nobody", vote="up")
        foreign = await vote(stack, theirs, request_id=request, vote="up")
        assert unknown[0] == foreign[0] == 404
        assert unknown[1]["error"]["message"].replace("req-nobody", request) == foreign[1]["error"]["message"]
        assert (await vote(stack, "bk-wrong", request_id=request, vote="up"))[0] == 401
        assert (await vote(stack, mine, request_id=abstained, vote="up"))[0] == 400
        assert (await vote(stack, mine, request_id=request, vote="down", comment="too short"))[0] == 200
        status, said = await vote(stack, all_of.user.api_key, request_id=request, vote="up")
        assert (status, said["error"]["code"]) == (409, "already_voted")
    with sqlite3.connect(tmp_path / "feedback.db") as database:
        rows = database.execute("SELECT request_id, source, tenant, model, score, comment FROM outcomes").fetchall()
    assert rows == [(request, "vote", "local", "plain", 0.0, "too short")]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"request_id": 3, "vote": "up"},
        {"request_id": "r"},
        {"request_id": "r", "vote": "sideways"},
        {"request_id": "r", "vote": ["up"]},
        {"request_id": "r", "vote": "up", "score": 1},
        {"request_id": "r", "score": 1.1},
        {"request_id": "r", "score": True},
        {"request_id": "r", "vote": "up", "comment": "x" * 2001},
        {"request_id": "r", "vote": "up", "stars": 5},
    ],
)
async def test_a_vote_that_is_none(tmp_path: Path, fields: dict[str, Any]) -> None:
    async with running(settings_for(tmp_path)) as stack:
        assert (await vote(stack, **fields))[0] == 400


async def test_a_request_of_an_earlier_run_can_be_voted_on_too(tmp_path: Path) -> None:
    async with serving(tmp_path) as (_, client):
        request = (await asked(client, "plain"))["request_id"]
    async with serving(tmp_path) as (stack, _):
        assert (await vote(stack, request_id=request, score=0.25))[1]["score"] == 0.25


async def test_the_ledger_and_the_metrics_name_the_version(tmp_path: Path) -> None:
    prod, canary = installed(tmp_path, range(2))
    async with serving(tmp_path, HALF) as (stack, client):
        await manage(stack, "tone/promote", version=canary.version, alias="canary")
        seen = Counter([(await asked(client, user=f"user-{number}"))["adapter"] for number in range(30)])
        for version in (prod, canary):
            labels = {"model": "tone", "adapter": version.engine_name}
            counted = metric(stack, "breakeven_version_requests_total", **labels, outcome="complete")
            assert counted == seen[version.engine_name]
            assert metric(stack, "breakeven_version_cost_usd_total", **labels, basis="allocation") is not None
    shown = Desk(Registry(tmp_path / "adapters"), settings_for(tmp_path), None, None).show("tone")
    assert {each["id"]: each["usage"]["requests"] for each in shown["versions"]} == seen
    assert all(each["usage"]["mean_cost_usd"] > 0 < each["usage"]["mean_seconds"] for each in shown["versions"])
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        rows = dict(database.execute("SELECT adapter, COUNT(*) FROM requests GROUP BY adapter").fetchall())
    assert rows == seen


async def test_the_series_of_versions_are_bounded(tmp_path: Path) -> None:
    async with serving(tmp_path, MODELS) as (stack, _):
        for number in range(200):
            stack.gateway.metrics.versions.scored("tone", f"tone@{number:012x}", "vote", 1.0)
        lines = stack.gateway.metrics.exposition().decode().splitlines()
    series = [line for line in lines if line.startswith("breakeven_version_scored_total{")]
    assert len(series) == 51
    assert sum(float(line.rpartition(" ")[2]) for line in series) == 200


def test_a_bad_pattern_stops_the_start() -> None:
    with pytest.raises(ValueError, match="not a regular expression"):
        Canary.model_validate({"pattern": "("})


async def test_votes_given_at_once_are_all_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as (stack, client):
        requests = [(await asked(client, "plain"))["request_id"] for _ in range(20)]
        answers = await asyncio.gather(*(vote(stack, request_id=each, vote="up") for each in requests * 2))
        assert Counter(status for status, _ in answers) == {200: 20, 409: 20}
    store = FeedbackStore(tables(None, tmp_path / "feedback.db", SCHEMA))
    assert len(store.since("plain", 0.0, "", "-").outcomes) == 20
    store.close()
