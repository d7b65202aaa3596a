"""Buckets that are taken from before it is known how much: never twice what fills up once, in memory and shared."""

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from serving.database.opening import shared_database
from serving.rates.buckets import MOST_DEBT, Bucket, Buckets, LocalBuckets, gap
from serving.rates.shared import SCHEMA, SharedBuckets
from tests.servers import Cluster

SECOND = 60  # the limit with which one more becomes possible each second


class Clock:
    """Seconds."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["in memory", "postgresql"])
async def both(request: pytest.FixtureRequest) -> AsyncIterator[list[Buckets]]:
    """The same buckets, as two gateways have them."""
    with ExitStack() as stack:
        if request.param == "in memory":
            yield [LocalBuckets(time.monotonic)] * 2
            return
        cluster: Cluster = request.getfixturevalue("postgres")
        cluster.empty()
        found: list[Buckets] = []
        for _ in range(2):
            database = stack.enter_context(shared_database(cluster.url()))
            assert database is not None
            database.prepare(SCHEMA)
            found.append(stack.enter_context(closing(SharedBuckets(database))))
        yield found


async def left(buckets: Buckets, limit: int, account: str = "k") -> int:
    return (await buckets.take(account, limit, 0)).left


async def settled(buckets: Buckets, limit: int, low: int, account: str = "k") -> int:
    """What is left once it is at least `low`: sharing gateways are told a moment later."""
    async with asyncio.timeout(5):
        while (found := await left(buckets, limit, account)) < low:  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.01)
    return found


async def test_of_many_at_once_no_more_is_taken_than_there_is(both: list[Buckets]) -> None:
    began = time.monotonic()
    taken = await asyncio.gather(*(both[number % 2].take("k", 100, 7) for number in range(40)))
    assert 14 <= sum(each.admitted for each in taken) <= 14 + (time.monotonic() - began) * 100 / 60 / 7 + 1
    assert {each.missing // gap(100) // 7 for each in taken if not each.admitted} <= {13, 14}
    refused = next(each for each in taken if not each.admitted)
    assert 0 < refused.retry_s <= 7 * 60 / 100


async def test_what_was_not_used_is_there_again_and_what_was_used_beyond_is_gone(both: list[Buckets]) -> None:
    limit = 1_000_000
    first, second = await both[0].take("k", limit, 800_000), await both[1].take("k", limit, 100_000)
    began = time.monotonic()
    both[1].settle(first, 200_000)
    assert 700_000 <= await settled(both[0], limit, 700_000) <= 700_000 + (time.monotonic() - began + 1) * limit / 60
    both[0].settle(second, 100_000)  # exactly what was thought
    third = await both[0].take("k", limit, 1)
    both[0].settle(third, 2 * limit)
    async with asyncio.timeout(5):
        while await left(both[1], limit):  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.01)
    refused = await both[1].take("k", limit, 1)
    assert not refused.admitted
    assert 60 < refused.retry_s <= 120


async def test_what_nobody_took_makes_no_bucket_more_than_full(both: list[Buckets]) -> None:
    both[0].settle(Bucket("nobody", SECOND, 60, 0, admitted=True, mark=10**25), 0)
    both[0].settle(Bucket("nobody", SECOND, 0, 0, admitted=True), 10)
    assert await settled(both[1], SECOND, 45, "nobody") <= 60


async def test_a_monstrous_usage_closes_a_bucket_for_an_hour_and_breaks_nothing(both: list[Buckets]) -> None:
    taken = await both[0].take("k", 1, 1)
    both[0].settle(taken, 10**30)
    async with asyncio.timeout(5):
        while (refused := await both[1].take("k", 1)).retry_s < 100:  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.01)
    assert refused.retry_s <= MOST_DEBT / 1e9 + 60


async def test_what_others_got_back_counts_in_postgresql_too_and_may_outgrow_64_bits(postgres: Cluster) -> None:
    postgres.empty()
    began = time.monotonic()
    with shared_database(postgres.url()) as database:
        assert database is not None
        database.prepare(SCHEMA)
        with closing(SharedBuckets(database)) as buckets:
            await buckets.take("k", SECOND, 1)
            database.write([("UPDATE buckets SET returned = ?", (10**25,))])
            taken = await buckets.take("k", SECOND, 50)
            assert taken.mark > 10**25
            database.write([("UPDATE buckets SET returned = returned + ?", (45 * gap(SECOND),))])
            buckets.settle(taken, 0)  # 6 of what it took can still be missing because of it
            assert await settled(buckets, SECOND, 15) <= 15 + (time.monotonic() - began)


async def test_what_was_taken_for_a_client_that_left_while_postgresql_was_asked_is_put_back(postgres: Cluster) -> None:
    postgres.empty()
    with shared_database(postgres.url()) as database, psycopg.connect(postgres.url()) as other:
        assert database is not None
        database.prepare(SCHEMA)
        with closing(SharedBuckets(database)) as buckets:
            await buckets.take("k", SECOND, 0)
            other.execute("SELECT 1 FROM breakeven_gateway.buckets FOR UPDATE")
            asking = asyncio.create_task(buckets.take("k", SECOND, 60))
            await asyncio.sleep(0.1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            other.commit()
            async with asyncio.timeout(5):
                while not database.rows("SELECT returned FROM buckets")[0]["returned"]:  # noqa: ASYNC110  # no event
                    await asyncio.sleep(0.01)
            assert await left(buckets, SECOND) == 60


async def test_what_filled_up_again_by_itself_is_not_given_back() -> None:
    clock = Clock()
    buckets = LocalBuckets(clock)
    taken = await buckets.take("k", SECOND, 60)
    clock.now += 45  # 15 are still missing because of it
    assert await left(buckets, SECOND) == 45
    buckets.settle(taken, 10)
    assert await left(buckets, SECOND) == 60
    again = await buckets.take("k", SECOND, 60)
    clock.now += 60
    other = await buckets.take("k", SECOND, 60)
    buckets.settle(again, 0)  # the bucket was full: nothing of it is missing any more
    assert await left(buckets, SECOND) == 0
    buckets.settle(other, 0)
    assert await left(buckets, SECOND) == 60


async def test_holds_that_are_given_back_in_turns_make_no_second_bucket() -> None:
    """Whoever holds, lets go and holds again must not have several holds upon the same part of the bucket."""
    clock = Clock()
    buckets = LocalBuckets(clock)
    first, second = await buckets.take("k", SECOND, 30), await buckets.take("k", SECOND, 30)
    buckets.settle(first, 0)
    third = await buckets.take("k", SECOND, 30)
    clock.now += 45
    buckets.settle(second, 0)
    more = await buckets.take("k", SECOND, 45)
    buckets.settle(third, 0)
    assert (more.admitted, await left(buckets, SECOND)) == (True, 15)


@dataclass
class Taking:
    """One that was admitted: when, and how much it came to, or is thought to."""

    at: float
    bucket: Bucket
    used: int


def takings(source: random.Random) -> list[Taking]:
    """Of somebody who takes, lets go and waits as it comes."""
    clock = Clock()
    buckets = LocalBuckets(clock)
    running: list[Taking] = []
    every: list[Taking] = []
    for _ in range(60):
        clock.now += source.choice([0, 0, 0, 0, 0.5, 5, 15, 30, 45])
        if source.random() < 0.5:
            bucket = now(buckets.take("k", SECOND, source.choice([1, 15, 30, 30, 45, 60])))
            if bucket.admitted:
                running.append(Taking(clock.now, bucket, bucket.amount))
                every.append(running[-1])
        elif running:
            ended = running.pop(source.randrange(len(running)))
            ended.used = int(ended.bucket.amount * source.choice([0, 0, 0.3, 1]))
            buckets.settle(ended.bucket, ended.used)
    return every


def test_no_window_of_time_ever_has_more_than_it_may() -> None:
    for seed in range(400):
        every = takings(random.Random(seed))
        for at, since in enumerate(every):
            used = 0
            for until in every[at:]:
                used += until.used
                assert used <= SECOND + (until.at - since.at), seed


def now(taking: Any) -> Bucket:
    """The result of a coroutine that never waits."""
    with pytest.raises(StopIteration) as done:
        taking.send(None)
    found: Bucket = done.value.value
    return found
