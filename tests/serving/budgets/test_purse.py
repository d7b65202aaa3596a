"""Whoever asks at once and whatever it then costs: a budget is overspent by no more than it says."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.budgets.purse import Limit, LocalPurse
from serving.budgets.windows import KINDS, window
from tests.serving.books import Clock

MIDNIGHT = datetime(2026, 1, 31, tzinfo=UTC).timestamp()
LIMITS = (Limit("key:k", "day", 100), Limit("key:k", "month", 250), Limit("tenant:t", "day", 150))
PAID_BY = ("key:k", "tenant:t")


@dataclass
class _Model:
    """What a purse must say, kept the slow way."""

    spent: dict[str, int] = field(default_factory=lambda: {limit.account + limit.kind: 0 for limit in LIMITS})
    # What may be spent beyond each budget, as the purse's module says.
    slack: dict[str, int] = field(default_factory=lambda: {limit.account + limit.kind: 0 for limit in LIMITS})
    running: dict[str, int] = field(default_factory=dict)
    rest: dict[str, list[str]] = field(default_factory=dict)


async def _hold(purse: LocalPurse, model: _Model, request_id: str, amount: int) -> bool:
    held = sum(model.running.values())
    refused = await purse.hold(request_id, LIMITS, amount)
    fits = all(model.spent[each.account + each.kind] + held + amount <= each.most for each in LIMITS)
    left = all(model.spent[each.account + each.kind] < each.most for each in LIMITS)
    assert (refused is None) == (left and (fits or not model.running))
    if refused is None:
        model.running[request_id] = amount
        if not fits:
            model.rest[request_id] = [
                each.account + each.kind
                for each in LIMITS
                if model.spent[each.account + each.kind] + amount > each.most
            ]
    else:
        assert refused.exhausted == (refused.spent >= refused.limit.most)
    return refused is None


def _settle(purse: LocalPurse, model: _Model, request_id: str, cost: int) -> None:
    purse.settle(request_id, PAID_BY, cost)
    above = max(0, cost - model.running.pop(request_id))
    for name in model.spent:
        model.spent[name] += cost
        model.slack[name] += cost if name in model.rest.get(request_id, ()) else above


# Whether to hold or to settle, the amount or cost, and which of those that run.
_steps = st.lists(st.tuples(st.booleans(), st.integers(0, 90), st.integers(0, 50)), max_size=60)


@settings(deadline=None)
@given(_steps)
def test_no_order_of_events_overspends(steps: list[tuple[bool, int, int]]) -> None:
    async def work() -> None:
        purse, model = LocalPurse(Clock(MIDNIGHT)), _Model()
        for number, (holds, amount, which) in enumerate(steps):
            if holds:
                await _hold(purse, model, f"r{number}", amount)
            elif model.running:
                _settle(purse, model, sorted(model.running)[which % len(model.running)], amount)
            for each in LIMITS:
                name = each.account + each.kind
                balance = purse.balance(each.account, each.kind)
                assert (balance.spent, balance.held) == (model.spent[name], sum(model.running.values()))
                assert balance.spent <= each.most + model.slack[name]
        for request_id in tuple(model.running):
            _settle(purse, model, request_id, 0)
        assert all(purse.balance(each.account, each.kind).held == 0 for each in LIMITS)

    asyncio.run(work())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 10), st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60))
def test_requests_that_keep_to_their_holds_overspend_by_one_at_most(wishes: list[tuple[int, int, int]]) -> None:
    """Many at once, ending in any order: beyond the budget is at most the one that had its rest to itself."""
    limit, amount = Limit("key:k", "day", 60), 10
    most_at_once = overspent = running = 0

    async def one(purse: LocalPurse, number: int, cost: int, before: int, during: int) -> None:
        nonlocal most_at_once, running, overspent
        for _ in range(before):
            await asyncio.sleep(0)
        if await purse.hold(f"r{number}", (limit,), amount) is not None:
            return
        running += 1
        most_at_once = max(most_at_once, running)
        for _ in range(during):
            await asyncio.sleep(0)
        running -= 1
        purse.settle(f"r{number}", ("key:k",), cost)
        overspent = max(overspent, purse.balance("key:k", "day").spent - limit.most)

    async def work() -> int:
        purse = LocalPurse(Clock(MIDNIGHT))
        await asyncio.gather(*(one(purse, number, *wish) for number, wish in enumerate(wishes)))
        return purse.balance("key:k", "day").spent

    spent = asyncio.run(work())
    assert most_at_once <= limit.most // amount
    assert overspent < amount
    assert spent <= sum(cost for cost, _, _ in wishes)


@pytest.mark.parametrize(
    ("kind", "at", "since", "until"),
    [
        ("day", "2026-03-01T12:00:00", "2026-03-01", "2026-03-02"),
        ("day", "2024-02-29T23:59:59", "2024-02-29", "2024-03-01"),
        ("month", "2024-02-29T23:59:59", "2024-02-01", "2024-03-01"),
        ("month", "2026-12-31T23:59:59", "2026-12-01", "2027-01-01"),
        ("month", "2026-01-01T00:00:00", "2026-01-01", "2026-02-01"),
        ("day", "2026-03-29T01:30:00", "2026-03-29", "2026-03-30"),
    ],
)
def test_windows_are_days_and_months_of_utc(kind: str, at: str, since: str, until: str) -> None:
    def seconds(text: str) -> float:
        return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()

    found = window("day" if kind == "day" else "month", seconds(at))
    assert (found.since, found.until) == (seconds(since), seconds(until))
    assert found.ends == f"{until}T00:00:00Z"


async def test_a_new_day_gives_the_day_anew_and_keeps_the_month() -> None:
    clock = Clock(MIDNIGHT - 10)
    purse = LocalPurse(clock)
    day, month = Limit("key:k", "day", 10), Limit("key:k", "month", 15)
    assert await purse.hold("a", (day, month), 10) is None
    clock.now = MIDNIGHT + 5
    # It ended in the new day, so it belongs to the new day, as in the ledger; until then it is held in it.
    assert purse.balance("key:k", "day").held == 10
    purse.settle("a", ("key:k",), 8)
    assert [purse.balance("key:k", kind).spent for kind in KINDS] == [8, 8]
    refused = await purse.hold("b", (Limit("key:k", "day", 8),), 1)
    assert refused is not None
    assert refused.left_s == 86_400 - 5
    clock.now = MIDNIGHT + 86_400  # the next day is another month, too
    assert [purse.balance("key:k", kind).spent for kind in KINDS] == [0, 0]


async def test_a_clock_set_back_gives_nothing_twice() -> None:
    clock = Clock(MIDNIGHT + 10)
    purse = LocalPurse(clock)
    purse.begin("key:k", "day", 7)
    for clock.now in (MIDNIGHT - 86_400 * 40, MIDNIGHT - 5, MIDNIGHT + 20):
        assert purse.balance("key:k", "day").spent == 7


async def test_nothing_is_held_in_one_account_if_another_refuses() -> None:
    purse = LocalPurse(Clock(MIDNIGHT))
    purse.begin("tenant:t", "day", 5)
    refused = await purse.hold("a", (Limit("key:k", "day", 100), Limit("tenant:t", "day", 5)), 1)
    assert refused is not None
    assert refused.limit.account == "tenant:t"
    assert purse.balance("key:k", "day").held == 0
    purse.settle("a", PAID_BY, 0)
    assert purse.balance("key:k", "day").held == 0
