"""Ten times as much as the engine can do: who is accepted is answered in time, the rest is told at once."""

import asyncio
import random
from collections.abc import Callable, Mapping

import pytest

from serving.admission.door import Door
from tests.serving.admission.load import Load, quantile
from tests.serving.admission.virtual import run

PLACES, MEAN_S, OBJECTIVE_S = 16, 2.0, 10.0
CAPACITY = PLACES / MEAN_S


def _fixed(_: random.Random) -> float:
    return MEAN_S


def _uniform(dice: random.Random) -> float:
    return dice.uniform(0.5 * MEAN_S, 1.5 * MEAN_S)


def _skewed(dice: random.Random) -> float:
    return dice.expovariate(1 / MEAN_S)


def _door(weights: Mapping[str, float] | None = None, max_queued: int = 512) -> Door:
    weights = weights or {}
    loop = asyncio.get_running_loop()
    return Door(PLACES, max_queued, OBJECTIVE_S, lambda name: weights.get(name, 1.0), loop.time)


def _overload(
    service: Callable[[random.Random], float],
    rates: Mapping[str, float],
    *,
    seconds: float = 300.0,
    weights: Mapping[str, float] | None = None,
    before_s: float = 0.0,
) -> Load:
    async def work() -> Load:
        dice = random.Random(5)
        load = Load(_door(weights), lambda: service(dice))
        async with asyncio.TaskGroup() as group:
            for number, (tenant, rate) in enumerate(rates.items()):
                group.create_task(load.poisson(tenant, rate, seconds, number, before_s))
        return load

    return run(work())


@pytest.mark.parametrize("service", [_fixed, _uniform, _skewed])
@pytest.mark.parametrize("before_s", [0.0, 0.05])
def test_accepted_requests_keep_the_objective_at_ten_times_the_load(
    service: Callable[[random.Random], float], before_s: float
) -> None:
    load = _overload(service, {"one": 10 * CAPACITY}, before_s=before_s)
    complete, refused = load.of("complete"), load.of("refused")
    assert quantile([each.took_s for each in complete], 0.95) <= OBJECTIVE_S
    # Nothing was let into the engine too late, and the engine never starved.
    assert max(each.waited_s for each in complete) <= OBJECTIVE_S
    assert len(complete) >= 0.95 * CAPACITY * 300
    # Refused in no time, nearly all of them at the door.
    assert quantile([each.waited_s for each in refused], 0.99) == 0.0
    late = load.door.refused["deadline"] + load.door.refused["overtaken"]
    assert late <= 0.01 * len(refused)
    assert load.door.running == load.door.queued == load.door.inside == 0
    assert all((each.retry_after_s or 0) >= 1 for each in refused)


def test_tenants_share_the_engine_whatever_they_send() -> None:
    load = _overload(_uniform, {"flood": 20 * CAPACITY, "busy": 2 * CAPACITY, "some": 1.1 * CAPACITY})
    served = {tenant: len(load.of("complete", tenant, since=60)) for tenant in ("flood", "busy", "some")}
    fair = sum(served.values()) / 3
    assert all(abs(count / fair - 1) <= 0.05 for count in served.values()), served


def test_weights_are_kept() -> None:
    load = _overload(_fixed, {"big": 10 * CAPACITY, "small": 10 * CAPACITY}, weights={"big": 3.0})
    ratio = len(load.of("complete", "big", since=60)) / len(load.of("complete", "small", since=60))
    assert ratio == pytest.approx(3.0, rel=0.05)


def test_who_asks_little_is_never_refused_beside_a_flood() -> None:
    load = _overload(_uniform, {"flood": 20 * CAPACITY, "quiet": 0.2 * CAPACITY})
    assert load.of("refused", "quiet", since=10) == []
    waits = [each.waited_s for each in load.of("complete", "quiet", since=10)]
    assert quantile(waits, 0.95) <= MEAN_S
    flood = [each.waited_s for each in load.of("complete", "flood", since=10)]
    assert quantile(waits, 0.5) < 0.25 * quantile(flood, 0.5)


def test_long_requests_do_not_take_more_than_their_share() -> None:
    """Tenants are equal in seconds of the engine, not in requests."""

    async def work() -> tuple[float, float]:
        door = _door()
        short, long = Load(door, lambda: 0.5), Load(door, lambda: 4.0)
        async with asyncio.TaskGroup() as group:
            group.create_task(short.poisson("short", 10 * CAPACITY, 300, 1))
            group.create_task(long.poisson("long", 10 * CAPACITY, 300, 2))
        return len(short.of("complete", since=60)) * 0.5, len(long.of("complete", since=60)) * 4.0

    short_s, long_s = run(work())
    assert short_s / long_s == pytest.approx(1.0, rel=0.1)


def test_a_request_counts_as_often_as_it_wants_sequences() -> None:
    async def work() -> Load:
        load = Load(_door(), lambda: MEAN_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.poisson("one", 4 * CAPACITY, 300, 1))
            group.create_task(load.poisson("four", CAPACITY, 300, 2, size=4))
        return load

    load = run(work())
    one, four = (len(load.of("complete", tenant)) for tenant in ("one", "four"))
    assert 4 * four == pytest.approx(one, rel=0.1)
    # The engine had no more to do than it can, but for what entered on the last free place.
    assert one + 4 * four <= (CAPACITY * (300 + OBJECTIVE_S)) * (1 + 3 / PLACES)
    assert quantile([each.took_s for each in load.of("complete")], 0.95) <= OBJECTIVE_S
    assert load.door.running == load.door.queued == load.door.inside == 0


def test_a_newcomer_gets_its_share_at_once() -> None:
    async def work() -> Load:
        load = Load(_door(), lambda: MEAN_S)
        async with asyncio.TaskGroup() as group:
            group.create_task(load.poisson("first", 10 * CAPACITY, 120, 1))
            await asyncio.sleep(60)
            group.create_task(load.poisson("late", 10 * CAPACITY, 60, 2))
        return load

    load = run(work())
    late = load.of("complete", "late")
    assert quantile([each.took_s for each in late], 0.95) <= OBJECTIVE_S
    assert min(each.at for each in late) <= 61
    first = [each for each in load.of("complete", "first") if each.at >= 70]
    assert len(first) == pytest.approx(len([each for each in late if each.at >= 70]), rel=0.05)
    assert quantile([each.took_s for each in load.of("complete", "first")], 0.95) <= OBJECTIVE_S


def test_an_engine_that_slows_down_makes_the_queue_shorter() -> None:
    async def work() -> Load:
        loop = asyncio.get_running_loop()
        load = Load(_door(), lambda: 1.0 if loop.time() < 100 else 4.0)
        await load.poisson("one", 10 * CAPACITY, 300, 3)
        return load

    load = run(work())
    settled = load.of("complete", since=130)
    assert quantile([each.took_s for each in settled], 0.95) <= OBJECTIVE_S
    assert max(each.waited_s for each in load.of("complete")) <= OBJECTIVE_S
    assert len(settled) >= 0.95 * (170 - OBJECTIVE_S) * PLACES / 4


def test_before_anything_is_measured_the_queue_is_short_and_ends_in_time() -> None:
    async def work() -> Load:
        load = Load(_door(), lambda: 3600.0)
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(load.request(f"tenant-{number % 5}"))
        return load

    load = run(work())
    assert len(load.of("complete")) == PLACES
    refused = load.of("refused")
    assert len(refused) == 100 - PLACES
    assert max(each.waited_s for each in refused) == pytest.approx(OBJECTIVE_S)
    assert sum(each.waited_s > 0 for each in refused) <= PLACES


def test_normal_again_once_the_flood_is_over() -> None:
    async def work() -> Load:
        load = Load(_door(), lambda: MEAN_S)
        await load.poisson("one", 10 * CAPACITY, 300, 4)
        ended = asyncio.get_running_loop().time()
        assert ended <= 300 + OBJECTIVE_S
        load.ended.clear()
        await load.poisson("one", 0.5 * CAPACITY, 60, 5)
        return load

    load = run(work())
    assert load.of("refused") == []
    assert quantile([each.waited_s for each in load.of("complete")], 0.95) == 0.0
