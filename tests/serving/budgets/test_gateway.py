"""Budgets in the gateway, over HTTP: what clients see, races, restarts, and who may change what."""

import asyncio
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest

from serving.accounting.ledger.queries import spent
from serving.auth import EVERYONE, open_keys
from serving.sharing import Budget
from tests.serving.gateways import Running, running, settings_for

ASK: Any = [{"role": "user", "content": "rain gauge holds how much water"}]
# A tenth of a second each, at a tenth of a cent per second: about 0.0001 USD, and more with idle time.
ENGINE = {"simulated_ttft_s": 0.1, "simulated_tokens": 1, "request_timeout_s": 5}


def _budget(**fields: str | float) -> Budget:
    return Budget.model_validate(fields)


async def _ask(
    http: aiohttp.ClientSession, stack: Running, key: str, model: str = "plain", **fields: Any
) -> tuple[int, Any, Any]:
    body = {"model": model, "messages": ASK, **fields}
    return await _call(http, stack, key, "POST", "chat/completions", json=body)


async def _call(
    http: aiohttp.ClientSession, stack: Running, key: str, method: str, path: str, **options: Any
) -> tuple[int, Any, Any]:
    headers = {"authorization": f"Bearer {key}"}
    async with http.request(method, f"{stack.url}/v1/{path}", headers=headers, **options) as response:
        whole = await response.read() if response.content_type != "application/json" else await response.json()
        return response.status, whole, response.headers


def _costs(answers: Sequence[tuple[int, Any, Any]]) -> list[Decimal]:
    return [Decimal(each[1]["breakeven"]["cost"]["allocation_usd"]) for each in answers if each[0] == 200]


async def test_many_at_once_overspend_a_key_by_one_request_at_most(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, engine=ENGINE)) as stack, aiohttp.ClientSession() as http:
        # Idle time since the start goes with the first requests; then each costs its share of a tenth of a second.
        warm = stack.gateway.keys.create("acme", [EVERYONE], "operator")
        for _ in range(3):
            assert (await _ask(http, stack, warm))[0] == 200
        allowed = Decimal("0.002")
        key = stack.gateway.keys.create("acme", [EVERYONE], "user", budget=_budget(usd_per_day="0.002"))
        answers: list[tuple[int, Any, Any]] = []
        for _ in range(100):
            answers += await asyncio.gather(*(_ask(http, stack, key) for _ in range(25)))
            if answers[-1][0] == 429 and answers[-1][1]["error"]["code"] == "insufficient_quota":
                break
        costs = _costs(answers)
        assert allowed <= sum(costs) <= allowed + max(costs)
        errors = [each[1]["error"] for each in answers if each[0] == 429]
        assert {error["code"] for error in errors} <= {"insufficient_quota", "budget_held"}
        assert errors[-1]["code"] == errors[-1]["type"] == "insufficient_quota"
        # The ledger says the same, to its last digit.
        await asyncio.sleep(1.2)
        key_id = key.split("-")[1]
        shown = (await _call(http, stack, key, "GET", "breakeven/usage"))[1]["key"]["day"]
        database = stack.gateway.runtime.journal.sinks[1].database  # type: ignore[attr-defined]  # the ledger
        in_ledger = (await asyncio.to_thread(spent, database, 0.0))["acme", key_id]
        assert abs(Decimal(shown["spent_usd"]) - in_ledger) <= len(costs) * Decimal("1e-10")
        assert abs(sum(costs) - in_ledger) <= len(costs) * Decimal("1e-10")
        assert (shown["held_usd"], shown["budget_usd"]) == ("0", "0.002")


async def test_what_a_client_sees_when_a_budget_is_spent(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, engine=ENGINE)) as stack, aiohttp.ClientSession() as http:
        key = stack.gateway.keys.create("acme", [EVERYONE], "user", budget=_budget(usd_per_day="0.00000001"))
        assert (await _ask(http, stack, key))[0] == 200  # the first: something was left
        client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=5)
        try:
            with pytest.raises(openai.RateLimitError) as caught:
                await client.chat.completions.create(model="plain", messages=ASK)
            with pytest.raises(openai.RateLimitError):
                await client.embeddings.create(model="hashing", input="x")
            with pytest.raises(openai.RateLimitError):
                await client.responses.create(model="plain", input="x")
        finally:
            await client.close()
        assert caught.value.type == caught.value.code == "insufficient_quota"
        assert re.search(r"this key for the day, 0.00000001 USD, is spent .*begins anew at", str(caught.value))
        assert 0 < int(caught.value.response.headers["retry-after"]) <= 86_400
        text = stack.gateway.metrics.exposition().decode()
        assert 'breakeven_budget_refused_total{scope="key",window="day"} 3.0' in text
        other = stack.gateway.keys.create("acme", [EVERYONE], "user")
        assert (await _ask(http, stack, other))[0] == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_warning_comes_before_the_end(tmp_path: Path, stream: bool) -> None:
    tenants = {"acme": {"budget": {"usd_per_day": "100", "warn_at": 0.000001}}}
    async with (
        running(settings_for(tmp_path, engine=ENGINE, tenants=tenants)) as stack,
        aiohttp.ClientSession() as http,
    ):
        key = stack.gateway.keys.create("acme", [EVERYONE], "user")
        assert "x-breakeven-budget-warning" not in (await _ask(http, stack, key, stream=stream))[2]
        for _ in range(2):
            status, _, headers = await _ask(http, stack, key, stream=stream)
            assert status == 200
            assert re.fullmatch(r"tenant day: 0\.\d+ of 100 USD", headers["x-breakeven-budget-warning"])
        text = stack.gateway.metrics.exposition().decode()
        assert 'breakeven_budget_warnings_total{scope="tenant",window="day"} 1.0' in text  # once, whatever follows
        used = re.search(r'breakeven_budget_used_ratio\{tenant="acme",window="day"\} (\S+)', text)
        assert used is not None
        assert 0 < float(used[1]) < 0.01


async def test_tenants_have_budgets_together_and_a_default(tmp_path: Path) -> None:
    sections: Any = {"default_budget": {"usd_per_month": "0"}, "tenants": {"acme": {"budget": {"usd_per_day": "50"}}}}
    async with running(settings_for(tmp_path, engine=ENGINE, **sections)) as stack, aiohttp.ClientSession() as http:
        keys = stack.gateway.keys
        ours, theirs = keys.create("acme", [EVERYONE], "user"), keys.create("rival", [EVERYONE], "user")
        assert (await _ask(http, stack, ours))[0] == 200
        status, answer, _ = await _ask(http, stack, theirs)
        assert (status, answer["error"]["code"]) == (429, "insufficient_quota")
        assert "this tenant for the month" in answer["error"]["message"]


async def test_a_restart_does_not_give_a_budget_again(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, engine=ENGINE)
    async with running(settings) as stack, aiohttp.ClientSession() as http:
        key = stack.gateway.keys.create("acme", [EVERYONE], "user", budget=_budget(usd_per_month="0.00000001"))
        assert (await _ask(http, stack, key))[0] == 200
        before = (await _call(http, stack, key, "GET", "breakeven/usage"))[1]["key"]["month"]
    async with running(settings) as stack, aiohttp.ClientSession() as http:
        after = (await _call(http, stack, key, "GET", "breakeven/usage"))[1]["key"]["month"]
        assert after == before
        assert Decimal(after["spent_usd"]) > 0
        status, answer, _ = await _ask(http, stack, key)
        assert (status, answer["error"]["code"]) == (429, "insufficient_quota")


async def test_the_rest_is_held_until_the_running_request_ends(tmp_path: Path) -> None:
    """Nothing was measured yet: a request may cost up to its time limit, so a small budget gets one at a time."""
    async with running(settings_for(tmp_path, engine=ENGINE)) as stack, aiohttp.ClientSession() as http:
        key = stack.gateway.keys.create("acme", [EVERYONE], "user", budget=_budget(usd_per_day="0.01"))
        answers = await asyncio.gather(*(_ask(http, stack, key) for _ in range(4)))
        assert sorted(each[0] for each in answers) == [200, 429, 429, 429]
        held = next(each for each in answers if each[0] == 429)
        assert (held[1]["error"]["code"], held[2]["retry-after"]) == ("budget_held", "2")
        assert "x-should-retry" not in held[2]
        # Whoever leaves, is refused elsewhere or fails holds nothing any more.
        assert (await _ask(http, stack, key, model="none"))[0] == 404
        call = asyncio.ensure_future(_ask(http, stack, key))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.sleep(0.1)
        shown = (await _call(http, stack, key, "GET", "breakeven/usage"))[1]["key"]["day"]
        assert shown["held_usd"] == "0"


async def test_who_may_see_and_change_budgets(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, engine=ENGINE)) as stack, aiohttp.ClientSession() as http:
        keys = stack.gateway.keys
        operator, user = keys.create("acme", [EVERYONE], "operator"), keys.create("acme", [EVERYONE], "user")
        rival = keys.create("rival", [EVERYONE], "operator")
        path = f"breakeven/keys/{user.split('-')[1]}"
        change = {"json": {"budget": {"usd_per_day": "0", "warn_at": 0.5}}}
        assert (await _call(http, stack, user, "PATCH", path, **change))[0] == 403
        assert (await _call(http, stack, user, "GET", "breakeven/keys"))[0] == 403
        assert (await _call(http, stack, rival, "PATCH", path, **change))[0] == 404
        status, shown, _ = await _call(http, stack, operator, "PATCH", path, **change)
        assert (status, shown["day"]["budget_usd"], shown["month"]["budget_usd"]) == (200, "0", None)
        assert shown["warn_at"] == 0.5
        assert (await _ask(http, stack, user))[0] == 429
        listed = (await _call(http, stack, operator, "GET", "breakeven/keys"))[1]["data"]
        assert len(listed) == 2
        assert not any("sha" in name or "secret" in name for each in listed for name in each)
        assert len((await _call(http, stack, rival, "GET", "breakeven/keys"))[1]["data"]) == 1
        assert (await _call(http, stack, operator, "PATCH", path, json={"budget": None}))[0] == 200
        assert (await _ask(http, stack, user))[0] == 200
        assert "tenant" not in (await _call(http, stack, user, "GET", "breakeven/usage"))[1]
        assert "tenant" in (await _call(http, stack, operator, "GET", "breakeven/usage"))[1]
        for bad in (
            {"budget": {"usd_per_day": "-1"}},
            {"budget": {"usd_per_day": "NaN"}},
            {"budget": {"usd_per_day": "1e999999"}},
            {"budget": {"usd_per_week": "1"}},
            {"budget": 5},
            {"budget": None, "role": "operator"},
            {},
        ):
            status, answer, _ = await _call(http, stack, operator, "PATCH", path, json=bad)
            assert (status, bool(answer["error"]["message"])) == (400, True), bad


def test_keys_from_before_there_were_budgets(tmp_path: Path) -> None:
    store = open_keys(tmp_path)
    key = store.create("acme", [EVERYONE], "user")
    store._database.write([("ALTER TABLE keys DROP COLUMN budget", ())])
    store.close()
    again = open_keys(tmp_path)
    assert again.authenticate(f"Bearer {key}").budget is None
    again.set_budget(key.split("-")[1], _budget(usd_per_day="5.50"))
    assert again.authenticate(f"Bearer {key}").budget == _budget(usd_per_day="5.50")
    again.close()
