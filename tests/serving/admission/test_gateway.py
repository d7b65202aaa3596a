"""The door in the gateway, over HTTP: what a refused client sees, and that nothing was spent on it."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from serving.auth import EVERYONE
from tests.serving.gateways import Running, running, settings_for

ASK: Any = [{"role": "user", "content": "rain gauge holds how much water"}]
ROUTER: Any = {"model": "plain", "labels": {"rain": "plain"}, "fallback": "plain"}


@asynccontextmanager
async def _busy(home: Path, **admission: Any) -> AsyncIterator[Running]:
    """Two places, half a second in the engine per request."""
    engine = {"simulated_ttft_s": 0.5, "simulated_tokens": 1}
    async with running(settings_for(home, engine=engine, admission={"max_running": 2, **admission})) as stack:
        yield stack


async def _ask(stack: Running, http: aiohttp.ClientSession, key: str = "", **fields: Any) -> tuple[int, Any, Any]:
    body = {"model": "plain", "messages": ASK, **fields}
    headers = {"authorization": f"Bearer {key}"}
    async with http.post(f"{stack.url}/v1/chat/completions", json=body, headers=headers) as response:
        return response.status, await response.json(), response.headers


async def test_what_a_refused_client_sees(tmp_path: Path) -> None:
    async with _busy(tmp_path, max_queued=2) as stack, AsyncExitStack() as clients:
        client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="x", max_retries=0)
        clients.push_async_callback(client.close)
        answers = await asyncio.gather(
            *(client.chat.completions.create(model="plain", messages=ASK) for _ in range(8)), return_exceptions=True
        )
        errors = [each for each in answers if isinstance(each, openai.RateLimitError)]
        assert len(errors) == 5, answers  # two in the engine, and one tenant's half of the queue
        assert len(answers) - len(errors) == 3
        assert all(each.code == "rate_limit_exceeded" and each.type == "rate_limit_error" for each in errors)
        assert all(int(each.response.headers["retry-after"]) >= 1 for each in errors)
        text = stack.gateway.metrics.exposition().decode()
        assert 'breakeven_refused_total{reason="tenant_share"} 5.0' in text
        assert 'breakeven_requests_total{endpoint="chat",model="-",outcome="error"} 5.0' in text
        assert "breakeven_queue_wait_seconds_count 1.0" in text
        assert "breakeven_engine_running 0.0" in text
        assert "breakeven_queue_length 0.0" in text
        rate = re.search(r"(?m)^breakeven_service_rate (\S+)", text)
        assert rate is not None
        assert 1 < float(rate[1]) <= 4  # two places, half a second each
        # OpenAI's client comes back by itself when it is told to.
        patient = client.with_options(max_retries=8)
        again = await asyncio.gather(
            *(patient.chat.completions.create(model="plain", messages=ASK) for _ in range(6)), return_exceptions=True
        )
        assert not [each for each in again if isinstance(each, BaseException)]


async def test_a_refused_request_is_refused_before_it_is_spent_on(tmp_path: Path) -> None:
    async with _busy(tmp_path, max_queued=1) as stack, aiohttp.ClientSession() as http:
        running = [asyncio.ensure_future(_ask(stack, http)) for _ in range(3)]
        await asyncio.sleep(0.2)
        searches = _searches(stack)
        for path, body in (
            ("chat/completions", {"model": "books", "messages": ASK}),
            ("responses", {"model": "books", "input": "rain gauge holds how much water"}),
        ):
            async with http.post(f"{stack.url}/v1/{path}", json=body) as response:
                assert (response.status, (await response.json())["error"]["code"]) == (429, "rate_limit_exceeded")
        assert _searches(stack) == searches
        assert [status for status, _, _ in await asyncio.gather(*running)] == [200] * 3
        status, _, _ = await _ask(stack, http, model="books")
        assert status == 200
        assert _searches(stack) > searches


def _searches(stack: Running) -> float:
    text = stack.gateway.metrics.exposition().decode()
    found = re.search(r'breakeven_retrieval_duration_seconds_count\{stage="search"\} (\S+)', text)
    return float(found[1]) if found else 0.0


async def test_who_abstains_waits_for_no_place(tmp_path: Path) -> None:
    async with _busy(tmp_path) as stack, aiohttp.ClientSession() as http:
        running = [asyncio.ensure_future(_ask(stack, http)) for _ in range(2)]
        await asyncio.sleep(0.1)
        nothing = [{"role": "user", "content": "zzz qqq"}]
        asked = asyncio.get_running_loop().time()
        status, answer, _ = await _ask(stack, http, model="books", messages=nothing)
        assert (status, answer["breakeven"]["abstained"]) == (200, True)
        assert asyncio.get_running_loop().time() - asked < 0.3
        await asyncio.gather(*running)
        assert (stack.gateway.runtime.door.inside, stack.gateway.runtime.door.running) == (0, 0)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_queued_client_that_leaves_gives_its_place_back(tmp_path: Path, stream: bool) -> None:
    async with _busy(tmp_path) as stack, aiohttp.ClientSession() as http:
        door = stack.gateway.runtime.door
        running = [asyncio.ensure_future(_ask(stack, http)) for _ in range(2)]
        await asyncio.sleep(0.1)
        async with aiohttp.ClientSession() as leaving:
            gone = asyncio.ensure_future(_ask(stack, leaving, stream=stream))
            await asyncio.sleep(0.1)
            assert (door.running, door.queued) == (2, 1)
            gone.cancel()
        for _ in range(50):
            if not door.queued:
                break
            await asyncio.sleep(0.01)
        assert (door.queued, door.inside) == (0, 2)
        await asyncio.gather(*running)
        assert (door.running, door.inside) == (0, 0)
        text = stack.gateway.metrics.exposition().decode()
        assert 'outcome="cancelled"} 1.0' in text


async def test_a_flood_of_one_tenant_does_not_keep_another_waiting(tmp_path: Path) -> None:
    async with _busy(tmp_path, max_queued=40) as stack, aiohttp.ClientSession() as http:
        keys = stack.gateway.keys
        flood, quiet = keys.create("flood", [EVERYONE], "user"), keys.create("quiet", [EVERYONE], "user")
        assert (await _ask(stack, http, flood))[0] == 200  # now the pace is known, and the queue may be long
        floods = [asyncio.ensure_future(_ask(stack, http, flood)) for _ in range(60)]
        await asyncio.sleep(0.7)
        asked = asyncio.get_running_loop().time()
        status, _, _ = await _ask(stack, http, quiet)
        assert status == 200
        # The next free place, then its own half second; the flood's last one waits for much longer.
        assert asyncio.get_running_loop().time() - asked < 1.6
        assert stack.gateway.runtime.door.queued > 2
        for each in floods:
            each.cancel()
        await asyncio.gather(*floods, return_exceptions=True)


async def test_a_routed_request_has_one_place_for_both_questions(tmp_path: Path) -> None:
    models = {"plain": {}, "desk": {"router": ROUTER}}
    engine = {"simulated_ttft_s": 0.05, "simulated_tokens": 1}
    admission = {"max_running": 1}
    async with (
        running(settings_for(tmp_path, engine=engine, admission=admission, models=models)) as stack,
        aiohttp.ClientSession() as http,
    ):
        answers = await asyncio.gather(*(_ask(stack, http, model="desk") for _ in range(2)))
        assert [status for status, _, _ in answers] == [200, 200]
        assert all("routing" in answer["breakeven"] for _, answer, _ in answers)
        assert stack.gateway.runtime.door.inside == 0


async def test_a_routed_request_that_waits_too_long_is_refused_once(tmp_path: Path) -> None:
    models = {"plain": {}, "desk": {"router": ROUTER}}
    engine = {"simulated_ttft_s": 0.6, "simulated_tokens": 1}
    admission = {"max_running": 1, "objective_s": 0.2}
    async with (
        running(settings_for(tmp_path, engine=engine, admission=admission, models=models)) as stack,
        aiohttp.ClientSession() as http,
    ):
        answered = asyncio.ensure_future(_ask(stack, http))
        await asyncio.sleep(0.1)
        assert (await _ask(stack, http, model="desk"))[0] == 429
        door = stack.gateway.runtime.door
        assert (door.inside, door.running, door.queued) == (1, 1, 0)
        assert (await answered)[0] == 200
        assert (door.inside, door.running, door.queued) == (0, 0, 0)
        assert door.refused["deadline"] == 1


async def test_an_engine_that_is_down_empties_the_queue_with_503(tmp_path: Path) -> None:
    async with _busy(tmp_path) as stack, aiohttp.ClientSession() as http:
        calls = [asyncio.ensure_future(_ask(stack, http)) for _ in range(3)]
        await asyncio.sleep(0.2)
        engine: Any = stack.gateway.engine
        engine.ready = False
        engine.restarts += 1
        statuses = sorted([status for status, _, _ in await asyncio.gather(*calls)])
        assert statuses == [502, 502, 503]
        assert stack.gateway.runtime.door.inside == 0
        # What failed says nothing about how fast answers are.
        assert stack.gateway.runtime.door.pace.rate is None


async def test_a_stopping_gateway_answers_who_waits(tmp_path: Path) -> None:
    slow = {"simulated_ttft_s": 0.25, "simulated_tokens": 1}
    async with aiohttp.ClientSession() as http:
        async with running(settings_for(tmp_path, engine=slow, admission={"max_running": 1})) as stack:
            calls = [asyncio.ensure_future(_ask(stack, http)) for _ in range(2)]
            await asyncio.sleep(0.1)
            assert stack.gateway.runtime.door.queued == 1
        assert [status for status, _, _ in await asyncio.gather(*calls)] == [200, 200]
