"""Versions are promoted, rolled back and lost under load, and no request fails or changes its version on the way."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from adapters.registry import AdapterVersion
from serving.engine.simulated import SimulatedEngine
from tests.serving.adapter_folders import installed, write_adapter
from tests.serving.gateways import Running, running, settings_for
from tests.serving.tenants import tenants

ASK: Any = [{"role": "user", "content": "one two three"}]
MODELS = {"tone": {"adapter": "tone"}, "plain": {}}


@asynccontextmanager
async def serving(home: Path, models: Any = None, **engine: Any) -> AsyncIterator[tuple[Running, openai.AsyncOpenAI]]:
    settings = settings_for(home, models=models or MODELS, engine=engine)
    async with (
        running(settings) as stack,
        openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as client,
    ):
        yield stack, client


async def manage(stack: Running, path: str, method: str = "POST", **body: Any) -> tuple[int, dict[str, Any]]:
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, f"{stack.url}/v1/breakeven/adapters/{path}", json=body) as response,
    ):
        return response.status, await response.json()


async def asked(client: openai.AsyncOpenAI, model: str = "tone", **options: Any) -> dict[str, Any]:
    answer = await client.chat.completions.create(model=model, messages=ASK, **options)
    extension: dict[str, Any] = {**answer.model_dump()["breakeven"], "model": answer.model}
    return extension


def engine_of(stack: Running) -> SimulatedEngine:
    engine = stack.gateway.engine
    assert isinstance(engine, SimulatedEngine)
    return engine


async def load(client: openai.AsyncOpenAI, seen: list[str], stop: asyncio.Event, stream: bool) -> None:
    while not stop.is_set():
        if not stream:
            seen.append((await asked(client))["adapter"])
            continue
        chunks = [
            chunk async for chunk in await client.chat.completions.create(model="tone", messages=ASK, stream=True)
        ]
        (adapter,) = {chunk.model for chunk in chunks}
        assert chunks[-1].model_dump()["breakeven"]["adapter"] == adapter
        seen.append(adapter)


async def test_promoting_and_rolling_back_under_load_fails_no_request(tmp_path: Path) -> None:
    versions = installed(tmp_path, range(4))
    async with serving(tmp_path, simulated_ttft_s=0.005, simulated_itl_s=0.001) as (stack, client):
        stop, seen = asyncio.Event(), list[str]()
        clients = [asyncio.create_task(load(client, seen, stop, number % 2 == 0)) for number in range(12)]
        for _ in range(3):
            for version in versions[1:]:
                status, _ = await manage(stack, "tone/promote", version=version.version)
                assert status == 200
                await asyncio.sleep(0.05)
                assert (await asked(client))["adapter"] == version.engine_name
            assert (await manage(stack, "tone/rollback"))[0] == 200
            assert (await asked(client))["adapter"] == versions[-2].engine_name
        stop.set()
        await asyncio.gather(*clients)  # raises what any request raised
        assert len(seen) > 100
        assert {version.engine_name for version in versions[1:]} <= set(seen)
        # What no alias means has left the engine; what prod meant before may be kept for a roll-back.
        await stack.gateway.rollout.settled()
        prod, before = versions[-2].version, stack.gateway.rollout.desk.registry.previous("tone", "prod")
        assert {f"tone@{prod}"} <= engine_of(stack).slots.loaded <= {f"tone@{prod}", f"tone@{before}"}


async def test_a_request_ends_on_the_version_it_began_with(tmp_path: Path) -> None:
    versions = installed(tmp_path, range(3))
    async with serving(tmp_path, simulated_itl_s=0.05, simulated_tokens=20) as (stack, client):
        stream = await client.chat.completions.create(model="tone", messages=ASK, stream=True)
        models = {(await anext(stream)).model}
        for version in versions[1:]:
            assert (await manage(stack, "tone/promote", version=version.version))[0] == 200
        assert versions[0].engine_name in engine_of(stack).slots.loaded
        models |= {chunk.model async for chunk in stream}
        assert models == {versions[0].engine_name}
        await stack.gateway.rollout.settled()
        assert versions[0].engine_name not in engine_of(stack).slots.loaded
        assert (await asked(client))["adapter"] == versions[2].engine_name


async def test_adapters_are_there_again_after_a_crash(tmp_path: Path) -> None:
    first, second = installed(tmp_path, range(2))
    async with serving(tmp_path) as (stack, client):
        assert (await manage(stack, "tone/promote", version=second.version, alias="canary"))[0] == 200
        away = asyncio.create_task(engine_of(stack).crash(0.2))
        await asyncio.sleep(0.05)
        with pytest.raises(openai.InternalServerError) as down:
            await asked(client)
        assert down.value.status_code == 503
        status, said = await manage(stack, "tone/promote", version=second.version)
        assert (status, said["error"]["code"]) == (503, "engine_unavailable")
        await away
        assert engine_of(stack).slots.loaded == {first.engine_name, second.engine_name}
        assert (await asked(client, user="somebody"))["adapter"] in (first.engine_name, second.engine_name)


async def test_going_back_is_possible_while_the_engine_is_away(tmp_path: Path) -> None:
    first, second = installed(tmp_path, range(2))
    async with serving(tmp_path) as (stack, client):
        assert (await manage(stack, "tone/promote", version=second.version))[0] == 200
        away = asyncio.create_task(engine_of(stack).crash(0.2))
        await asyncio.sleep(0.05)
        assert (await manage(stack, "tone/rollback"))[0] == 200
        await away
        assert (await asked(client))["adapter"] == first.engine_name


async def test_an_adapter_that_cannot_be_loaded_costs_its_own_model_only(tmp_path: Path) -> None:
    installed(tmp_path, [1])
    (large,) = installed(tmp_path, [2], name="large", rank=64)
    models = {**MODELS, "large": {"adapter": "large"}}
    async with serving(tmp_path, models) as (stack, client):
        with pytest.raises(openai.InternalServerError) as refused:
            await asked(client, "large")
        assert refused.value.status_code == 503
        assert refused.value.code == "adapter_unavailable"
        assert "rank 64 is greater than max_lora_rank 16" in refused.value.message
        assert (await asked(client, "tone"))["alias"] == "prod"
        assert (await asked(client, "plain"))["adapter"] is None
        # Promoting it is refused too, and the alias stays what it was.
        (other,) = installed(tmp_path, [3], name="large", rank=32)
        status, said = await manage(stack, "large/promote", version=other.version)
        assert (status, said["error"]["code"]) == (503, "adapter_unavailable")
        assert stack.gateway.rollout.desk.registry.aliases("large") == {"prod": large.version}


async def test_more_adapters_than_one_batch_holds_all_answer(tmp_path: Path) -> None:
    names = [f"a{number}" for number in range(6)]
    made = {name: installed(tmp_path, [1], name=name)[0].engine_name for name in names}
    models = {name: {"adapter": name} for name in names}
    async with serving(tmp_path, models, max_loras=2, simulated_ttft_s=0.01) as (stack, client):
        answers = await asyncio.gather(*(asked(client, name) for name in names * 5))
        assert [each["adapter"] for each in answers] == [made[name] for name in names * 5]
        assert engine_of(stack).slots.swaps >= 4


async def test_an_operator_may_ask_any_installed_version_by_name(tmp_path: Path) -> None:
    first, second = installed(tmp_path, range(2))
    async with serving(tmp_path) as (_, client):
        assert (await asked(client, second.engine_name))["adapter"] == second.engine_name
        assert (await asked(client, f"tone@{first.version}"))["alias"] is None
        with pytest.raises(openai.NotFoundError):
            await asked(client, "tone@000000000000")


async def test_a_configured_folder_is_followed_until_an_operator_decides(tmp_path: Path) -> None:
    folder = tmp_path / "configured"
    settings = settings_for(tmp_path / "home", models=MODELS).model_copy(update={"adapters": (folder,)})
    served, notes = [], tuple[str, ...]()
    for seed in (1, 2, 3):
        write_adapter(folder, seed)
        async with running(settings) as stack:
            catalogue = stack.gateway.catalogue
            served.append(catalogue.resolve("tone").engine_model)
            if seed == 2:
                await manage(stack, "tone/rollback", reason="the old one was better")
            notes = catalogue.left_out
        folder.rename(tmp_path / f"old-{seed}")
    assert len(set(served[:2])) == 2
    assert served[2] == served[0]  # not what the folder holds now: an operator rolled back
    assert any("prod stays" in note for note in notes)


async def test_managing_is_for_operators(tmp_path: Path) -> None:
    (version,) = installed(tmp_path, [1])
    async with tenants(tmp_path) as all_of, aiohttp.ClientSession() as http:
        url = f"{all_of.stack.url}/v1/breakeven/adapters"
        paths = [
            ("GET", ""),
            ("GET", "/tone"),
            ("POST", "/tone/promote"),
            ("POST", "/tone/rollback"),
            ("DELETE", f"/tone/versions/{version.version}"),
        ]
        for method, path in paths:
            headers = {"authorization": f"Bearer {all_of.user.api_key}"}
            async with http.request(method, url + path, json={}, headers=headers) as response:
                assert response.status == 403, path
        with pytest.raises(openai.NotFoundError):
            await asked(all_of.user, version.engine_name)


async def test_removing(tmp_path: Path) -> None:
    first, second = installed(tmp_path, range(2))
    async with serving(tmp_path, simulated_itl_s=0.02) as (stack, client):
        path = f"tone/versions/{second.version}"
        status, said = await manage(stack, f"tone/versions/{first.version}", "DELETE")
        assert (status, said["error"]["code"]) == (409, "version_in_use")
        busy = asyncio.create_task(asked(client, second.engine_name))
        while not stack.gateway.rollout.traffic.running(second.engine_name):  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.005)
        status, said = await manage(stack, path, "DELETE")
        assert (status, said["error"]["code"]) == (409, "version_in_use")
        await busy
        assert (await manage(stack, path, "DELETE"))[0] == 200
        assert (await manage(stack, path, "DELETE"))[0] == 404
        assert second.engine_name not in engine_of(stack).slots.loaded
        assert [each["id"] for each in (await manage(stack, "", "GET"))[1]["data"]] == [first.engine_name]


def gated(version: AdapterVersion) -> dict[str, Any]:
    return {"version": version.version}


async def test_the_gate(tmp_path: Path) -> None:
    (good,) = installed(tmp_path, [1], scores=[("accuracy", 0.9)])
    (bad,) = installed(tmp_path, [2], scores=[("accuracy", 0.7)])
    (unmeasured,) = installed(tmp_path, [3])
    models = {"tone": {"adapter": "tone", "gate": {"min_scores": {"accuracy": 0.85}}}, "plain": {}}
    async with serving(tmp_path, models) as (stack, client):
        for version in (bad, unmeasured):
            for alias in ("prod", "canary"):
                status, said = await manage(stack, "tone/promote", alias=alias, **gated(version))
                assert (status, said["error"]["code"]) == (409, "promotion_refused")
                assert "at least 0.85" in said["error"]["message"] and "MISSED" in said["error"]["message"]
        status, said = await manage(stack, "tone/promote", force=True, **gated(bad))
        assert status == 409 and "say why" in said["error"]["message"]
        assert (await asked(client))["adapter"] == good.engine_name
        status, _ = await manage(stack, "tone/promote", force=True, reason="demo day", **gated(bad))
        assert status == 200
        assert (await asked(client))["adapter"] == bad.engine_name
        decisions = (await manage(stack, "tone", "GET"))[1]["decisions"]
        assert [each["action"] for each in decisions] == ["install", *["refuse"] * 4, "promote"]
        last = decisions[-1]
        assert (last["forced"], last["reason"], last["who"]) == (True, "demo day", "key local of local")
        assert last["seen"]["gate"][0] == {
            **{"model": "tone", "name": "accuracy", "wanted": "at least 0.85"},
            **{"seen": 0.7, "n": 50, "low": 0.0, "high": 1.0, "passed": False},
        }
