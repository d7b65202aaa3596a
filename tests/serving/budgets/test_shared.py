"""Several gateways, one purse in PostgreSQL: the same rule over all of them, and what becomes of it when one dies."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from serving.budgets.purse import Limit, LocalPurse, Purse
from serving.budgets.shared import SharedPurse, shared_purse
from serving.budgets.windows import KINDS, window
from serving.errors import StoreUnavailable
from tests.servers import Cluster

LIMIT, TENANT = Limit("key:k", "day", 1000), Limit("tenant:t", "month", 5000)
PAID_BY = ("key:k", "tenant:t")


@pytest.fixture
async def purses(postgres: Cluster) -> AsyncIterator[list[SharedPurse]]:
    """Three gateways'."""
    postgres.empty()
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(shared_purse(postgres.url(), 60)) for _ in range(3)]


async def _settled(purse: SharedPurse) -> None:
    for _ in range(200):
        if not purse._ended:
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a cost was not written")


async def test_gateways_that_ask_at_once_overspend_by_one_request_at_most(purses: list[SharedPurse]) -> None:
    admitted = most_at_once = running = 0

    async def one(number: int) -> None:
        nonlocal admitted, running, most_at_once
        purse = purses[number % 3]
        if await purse.hold(f"r{number}", (LIMIT, TENANT), 90) is not None:
            return
        admitted += 1
        running += 1
        most_at_once = max(most_at_once, running)
        await asyncio.sleep(0.02)
        running -= 1
        purse.settle(f"r{number}", PAID_BY, 70)

    for wave in range(4):
        await asyncio.gather(*(one(wave * 60 + number) for number in range(60)))
        for purse in purses:
            await _settled(purse)
    assert most_at_once <= 1000 // 90
    for purse in purses:
        await purse.refresh(PAID_BY)
        spent = [purse.balance(name, kind).spent for name in PAID_BY for kind in KINDS]
        assert spent == [70 * admitted] * 4  # nothing lost, nothing twice, seen by all
        assert purse.balance("key:k", "day").held == 0
    assert 1000 - 90 < 70 * admitted < 1000 + 70


_SLOW_COMMITS = """
CREATE FUNCTION breakeven_budgets.slow() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- As a commit that is past the point of no return: it cannot be cancelled any more.
    BEGIN PERFORM pg_sleep(0.3); EXCEPTION WHEN query_canceled THEN NULL; END;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER slow AFTER INSERT OR UPDATE ON breakeven_budgets.spending
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION breakeven_budgets.slow();
"""


async def test_a_cost_that_is_being_written_when_the_gateway_ends_counts_once(postgres: Cluster) -> None:
    postgres.run_sql("DROP SCHEMA IF EXISTS breakeven_budgets CASCADE")
    async with shared_purse(postgres.url(), 60) as purse:
        postgres.run_sql(_SLOW_COMMITS)
        purse.settle("r", ("key:k",), 70)
        await asyncio.sleep(0.2)
    assert postgres.run_sql("SELECT kind, spent::int FROM breakeven_budgets.spending ORDER BY kind") == [
        ("day", 70),
        ("month", 70),
    ]


async def test_the_same_answers_as_in_memory(purses: list[SharedPurse]) -> None:
    async def story(purse: Purse) -> list[object]:
        said: list[object] = []
        for number, (amount, cost) in enumerate([(600, 500), (600, 10), (700, 480), (5, 5), (990, 20), (1, 1)]):
            refused = await purse.hold(f"r{number}", (LIMIT, TENANT), amount)
            second = await purse.hold(f"s{number}", (LIMIT, TENANT), 500)
            for each in (refused, second):
                said.append(None if each is None else (each.limit, each.spent, each.held, each.exhausted, each.window))
            for name, given in ((f"r{number}", refused), (f"s{number}", second)):
                purse.settle(name, PAID_BY if given is None else (), cost if given is None else 0)
            if isinstance(purse, SharedPurse):
                await _settled(purse)
            await purse.refresh(PAID_BY)
            said += [
                (purse.balance(name, kind).spent, purse.balance(name, kind).held) for name in PAID_BY for kind in KINDS
            ]
        return said

    assert await story(purses[0]) == await story(LocalPurse(time.time))


async def test_what_the_ledger_knows_is_taken_once(purses: list[SharedPurse]) -> None:
    for purse in purses:
        await purse.begin({("key:k", "day"): 400, ("tenant:t", "month"): 900})
    await purses[1].refresh(PAID_BY)
    assert purses[1].balance("key:k", "day").spent == 400
    assert purses[1].balance("tenant:t", "month").spent == 900
    assert purses[1].windows["month"] == window("month", time.time())
    await purses[2].begin({})


async def test_a_killed_gateways_holds_expire(postgres: Cluster, purses: list[SharedPurse]) -> None:
    async with shared_purse(postgres.url(), 0.5) as killed:
        assert await killed.hold("lost", (LIMIT,), 900) is None
    refused = await purses[0].hold("r", (LIMIT,), 200)
    assert refused is not None
    assert not refused.exhausted
    await asyncio.sleep(0.6)
    assert await purses[0].hold("r", (LIMIT,), 200) is None


async def test_while_the_database_is_away_nothing_is_admitted_and_no_cost_is_lost(
    postgres: Cluster, purses: list[SharedPurse]
) -> None:
    purse = purses[0]
    assert await purse.hold("a", (LIMIT,), 100) is None
    postgres.stop()
    try:
        with pytest.raises(StoreUnavailable, match="database_url"):
            await purse.hold("b", (LIMIT,), 100)
        purse.settle("a", PAID_BY, 120)
        await asyncio.sleep(0.2)
        assert purse._ended
    finally:
        postgres.start()
    for _ in range(100):
        await asyncio.sleep(0.1)
        if not purse._ended:
            break
    await purses[1].refresh(PAID_BY)
    assert (purses[1].balance("key:k", "day").spent, purses[1].balance("key:k", "day").held) == (120, 0)
