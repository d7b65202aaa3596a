"""Whatever comes, leaves or takes its time: places are never exceeded, never idle beside a queue, and never lost."""

import asyncio
from dataclasses import dataclass
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.admission.door import Door, Place
from serving.admission.queue import FairQueue
from serving.errors import Overloaded
from tests.serving.admission.virtual import run

TENANTS = ("a", "b", "c")


@dataclass(frozen=True)
class Wish:
    """One request: when it comes, how long it retrieves and is in the engine, and after how long its client leaves."""

    tenant: str
    pause_s: float
    before_s: float
    service_s: float
    leaves_after_s: float | None
    fails: bool
    size: int = 1


MOST_SIZE = 3
_seconds = st.floats(0, 4).map(lambda value: round(value, 2))
_wishes = st.lists(
    st.builds(
        Wish,
        tenant=st.sampled_from(TENANTS),
        pause_s=st.one_of(st.just(0.0), _seconds),
        before_s=st.one_of(st.just(0.0), _seconds),
        service_s=_seconds,
        leaves_after_s=st.one_of(st.none(), _seconds),
        fails=st.booleans(),
        size=st.sampled_from([1, 1, 1, 2, MOST_SIZE]),
    ),
    min_size=1,
    max_size=60,
)


class _Watched:
    """A door whose rules are checked at every step of every request."""

    def __init__(self, places: int, max_queued: int, objective_s: float) -> None:
        clock = asyncio.get_running_loop().time
        self.door = Door(places, max_queued, objective_s, lambda name: 2.0 if name == "a" else 1.0, clock)
        self.max_queued = max_queued
        self.in_engine = 0
        self.outcomes: list[str] = []

    def check(self) -> None:
        door = self.door
        # The last that enters may want more places than there are.
        assert 0 <= self.in_engine <= door.running < door.places + MOST_SIZE
        assert door.queued == 0 or door.running >= door.places
        assert door.queued + door.running <= door.inside
        # A tenant without a backlog may always have one request waiting, and who was let through while there was room
        # may find the engine full after all.
        assert door.queued <= self.max_queued + len(TENANTS) + door.places

    async def request(self, wish: Wish) -> None:
        place = Place(self.door, wish.tenant)
        outcome = "refused"
        try:
            place.apply(wish.size)
            await asyncio.sleep(wish.before_s)
            await place.enter()
            await place.enter()  # a routed request is in the engine twice, in one place
            self.in_engine += place.size
            try:
                self.check()
                await asyncio.sleep(wish.service_s)
                outcome = "failed" if wish.fails else "complete"
            finally:
                self.in_engine -= place.size
        except Overloaded as error:
            assert error.headers()["retry-after"].isdigit()
        except asyncio.CancelledError:
            outcome = "left"
            raise
        finally:
            place.leave(completed=outcome == "complete")
            place.leave(completed=True)  # a second time does nothing
            self.check()
            self.outcomes.append(outcome)


async def _play(watched: _Watched, wishes: list[Wish]) -> None:
    loop, tasks = asyncio.get_running_loop(), []
    for wish in wishes:
        if wish.pause_s:
            await asyncio.sleep(wish.pause_s)
        task = loop.create_task(watched.request(wish))
        if wish.leaves_after_s is not None:
            loop.call_later(wish.leaves_after_s, task.cancel)
        tasks.append(task)
    await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


@settings(max_examples=300, deadline=None)
@given(_wishes, st.integers(1, 4), st.integers(1, 10), st.floats(0.5, 30))
def test_places_are_kept_and_given_back(wishes: list[Wish], places: int, max_queued: int, objective_s: float) -> None:
    async def work() -> None:
        watched = _Watched(places, max_queued, objective_s)
        await _play(watched, wishes)
        door = watched.door
        assert (door.running, door.queued, door.inside, watched.in_engine) == (0, 0, 0, 0)
        assert sum(door.refused.values()) == watched.outcomes.count("refused")
        # And it works as before: as many as there are places enter at once.
        after = [Place(door, "a") for _ in range(places)]
        for place in after:
            place.apply()
            await asyncio.wait_for(place.enter(), 0.001)
        for place in after:
            place.leave(completed=False)
        for name in TENANTS:
            assert door.predicted_s(door._queue.tenant(name)) in (None, 1 / (door.pace.rate or 1))

    run(work())


@settings(max_examples=300, deadline=None)
@given(_wishes, st.integers(1, 3))
def test_nobody_is_let_in_after_its_deadline(wishes: list[Wish], places: int) -> None:
    objective_s = 5.0

    async def work() -> None:
        door = Door(places, 1000, objective_s, lambda _: 1.0, asyncio.get_running_loop().time)
        waits: list[float] = []
        door.on_wait = waits.append
        watched = _Watched(places, 1000, objective_s)
        watched.door = door
        await _play(watched, wishes)
        assert all(wait <= objective_s + 1e-9 for wait in waits)

    run(work())


_costs = st.integers(1, 20).map(lambda tenths: tenths / 10)


@settings(deadline=None)
@given(
    st.lists(st.tuples(_costs, _costs, _costs), min_size=1, max_size=80),
    st.tuples(*(st.sampled_from([0.5, 1.0, 2.0, 5.0]) for _ in TENANTS)),
    st.floats(0.1, 3),
)
def test_tenants_that_always_wait_are_served_by_their_weights(
    costs: list[tuple[float, float, float]], weights: tuple[float, float, float], expected_s: float
) -> None:
    """Seconds served per unit of weight differ by no more than one request of each, however wrong the expectation."""
    by_name = dict(zip(TENANTS, weights, strict=True))
    queue: FairQueue[tuple[str, int]] = FairQueue(by_name.__getitem__)
    for number in range(len(costs)):
        for name in TENANTS:
            queue.push(queue.tenant(name), (name, number))
    served = dict.fromkeys(TENANTS, 0.0)
    positions = dict.fromkeys(TENANTS, -1)
    while all(queue.tenant(name).line for name in TENANTS):
        item = queue.pop(lambda _: expected_s)
        assert item is not None
        name, number = item
        assert number == positions[name] + 1  # in its own line, first come first served
        positions[name] = number
        took = costs[number][TENANTS.index(name)]
        queue.correct(queue.tenant(name), took - expected_s)
        served[name] += took
        clocks = sorted(served[each] / by_name[each] for each in TENANTS)
        most = max(2.0, expected_s) / min(weights)
        assert all(later - earlier <= 2 * most + 1e-9 for earlier, later in pairwise(clocks))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["push a", "push b", "pop", "remove a", "remove b"]), max_size=100))
def test_a_queue_loses_and_repeats_nobody(steps: list[str]) -> None:
    queue: FairQueue[int] = FairQueue(lambda _: 1.0)
    waiting: dict[str, list[int]] = {"a": [], "b": []}
    for number, step in enumerate(steps):
        action, _, name = step.partition(" ")
        if action == "push":
            queue.push(queue.tenant(name), number)
            waiting[name].append(number)
        elif action == "remove" and waiting[name]:
            queue.remove(queue.tenant(name), waiting[name].pop(len(waiting[name]) // 2))
        elif action == "pop":
            item = queue.pop(lambda _: 1.0)
            heads = [line[0] for line in waiting.values() if line]
            assert (item in heads) if heads else item is None
            for line in waiting.values():
                if item in line:
                    line.remove(item)
        assert len(queue) == sum(map(len, waiting.values()))


def test_waiting_earns_no_credit_and_an_empty_queue_forgives() -> None:
    queue: FairQueue[str] = FairQueue(lambda _: 1.0)
    for number in range(10):
        queue.push(queue.tenant("old"), f"old{number}")
    for _ in range(6):
        queue.pop(lambda _: 1.0)
    for number in range(3):
        queue.push(queue.tenant("new"), f"new{number}")
    assert [str(queue.pop(lambda _: 1.0))[:3] for _ in range(6)] in (["new", "old"] * 3, ["old", "new"] * 3)
    queue.correct(queue.tenant("old"), 1000.0)
    assert queue.debt(queue.tenant("old")) >= 999
    queue.pop(lambda _: 1.0)
    assert queue.pop(lambda _: 1.0) is None
    assert queue.debt(queue.tenant("old")) == 0.0
