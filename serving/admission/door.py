"""The door of the engine: at once while it has room, else a fair queue as long as the objective allows, else 429.

A request passes three points. `apply`, before anything is spent on it, refuses it if at the measured rate it would wait
so long that the objective is missed. `enter` waits for one of the engine's places. `leave` gives back whatever it
holds. While the engine has room none of them does more than count.

A request takes as many places as it wants sequences, its `n` times its prompts. It enters when the first of them is
free, so that it is never passed for ever by smaller ones; what is too much for a moment waits in the engine.

What waits keeps its promise or is told early: each request has a deadline, and whenever a tenant is served its newest
requests are looked at again, because other tenants may have come since and slowed it down.
"""

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Literal, get_args

from serving.admission.pace import Pace
from serving.admission.queue import FairQueue, Tenant
from serving.errors import Overloaded

# Why a request is refused. At the door: it would wait longer than the objective allows, or its tenant has its share of
# the queue already. In the queue: others came and it would now be too late, or it was.
Reason = Literal["latency", "tenant_share", "overtaken", "deadline"]
# Share of the permitted wait that the door gives away; the rest is for others who come and for slower answers.
_PROMISED = 0.8
# Before anything was measured.
_UNKNOWN_RETRY_S = 5.0

_State = Enum("_State", ["OUTSIDE", "EXPECTED", "QUEUED", "INSIDE", "LEFT"])
_OUTSIDE, _EXPECTED, _QUEUED, _INSIDE, _LEFT = _State


class Door:
    """Belongs to the event loop. `places` are the engine's, `objective_s` goes from `apply` to the end of the answer,
    `clock` is the loop's."""

    def __init__(
        self,
        places: int,
        max_queued: int,
        objective_s: float,
        weight: Callable[[str], float],
        clock: Callable[[], float],
    ) -> None:
        self.places, self._max_queued, self._objective_s, self._clock = places, max_queued, objective_s, clock
        self.pace = Pace(places)
        self.running = 0
        # Everyone between apply and leave.
        self.inside = 0
        self._queue: FairQueue[Claim] = FairQueue(weight)
        # Weights of the tenants with a backlog.
        self._weights = 0.0
        self.refused: Counter[Reason] = Counter(dict.fromkeys(get_args(Reason), 0))
        self.on_wait: Callable[[float], None] = lambda _: None

    @property
    def queued(self) -> int:
        """Requests waiting now."""
        return len(self._queue)

    @property
    def patience_s(self) -> float:
        """Seconds that a request may wait: what the objective leaves after the answer itself."""
        return max(0.0, self._objective_s - self.pace.high_s)

    def predicted_s(self, tenant: "Tenant[Claim]", size: int = 1) -> float | None:
        """Seconds that a request of so many sequences would wait; None before anything was measured."""
        if (rate := self.pace.rate) is None:
            return None
        weights = self._weights if tenant.backlog else self._weights + tenant.weight
        others = self._queue.debt(tenant) * (weights - tenant.weight) / self.places if weights > tenant.weight else 0.0
        return others + (tenant.backlog + size) * weights / tenant.weight / rate

    def apply(self, place: "Place") -> None:
        """See Place.apply, for when the engine has no room."""
        tenant = self._queue.tenant(place.name)
        predicted = self.predicted_s(tenant, place.size)
        waiting = self.inside - self.places
        if predicted is not None and predicted > _PROMISED * self.patience_s:
            raise self._refusal("latency", predicted)
        # A dynamic threshold (Choudhury and Hahne): as much as is still free. One tenant leaves half of the queue free,
        # two leave a third, so that whoever comes next finds room.
        if tenant.backlog and tenant.backlog + place.size > tenant.weight * (self._room() - waiting):
            raise self._refusal("tenant_share", predicted)
        self.inside += place.size
        self._expect(place, tenant)
        place.state = _EXPECTED

    async def enter(self, place: "Place") -> None:
        """See Place.enter, for when the engine has no room."""
        claim = place.claim or self._expect(place, self._queue.tenant(place.name))
        place.state, since = _QUEUED, self._clock()
        self._queue.push(claim.tenant, claim)
        claim.tenant.waiting += place.size
        late = claim.turn.get_loop().call_later(max(0.0, claim.deadline - since), self._evict, claim, "deadline")
        try:
            await claim.turn
        finally:
            late.cancel()
            self.on_wait(self._clock() - since)

    def seat(self, place: "Place") -> None:
        """It is in the engine."""
        self.running += place.size
        place.state, place.entered = _INSIDE, self._clock()
        if place.claim is not None:
            self._forget(place.claim)

    def settle(self, place: "Place", *, completed: bool) -> None:
        """It leaves the engine."""
        took = self._clock() - place.entered
        self.running -= place.size
        self.inside -= place.size
        if completed:
            self.pace.observe(took)
        if self.queued:
            if place.claim is not None and place.claim.charged_s is not None:
                self._queue.correct(place.claim.tenant, took * place.size - place.claim.charged_s)
            self._fill()

    def withdraw(self, place: "Place") -> None:
        """It leaves before it was in the engine."""
        self.inside -= place.size
        if place.claim is not None:
            if place.state is _QUEUED:
                self._queue.remove(place.claim.tenant, place.claim)
                place.claim.tenant.waiting -= place.size
            self._forget(place.claim)

    def _fill(self) -> None:
        while self.running < self.places and (claim := self._queue.pop(self._expected_s)) is not None:
            claim.charged_s = self._expected_s(claim)
            claim.tenant.waiting -= claim.place.size
            self.seat(claim.place)
            if not claim.turn.done():  # else its client left just now, and it gives the place back
                claim.turn.set_result(None)
            self._look_again(claim.tenant)

    def _expected_s(self, claim: "Claim") -> float:
        return self.pace.mean_s * claim.place.size

    def _room(self) -> float:
        """Sequences that may wait in all: what the engine completes in that time, no more than the setting."""
        if (rate := self.pace.rate) is None:
            return min(self._max_queued, self.places)
        return min(float(self._max_queued), rate * _PROMISED * self.patience_s)

    def _expect(self, place: "Place", tenant: "Tenant[Claim]") -> "Claim":
        turn = asyncio.get_running_loop().create_future()
        place.claim = Claim(place, tenant, self._clock() + self.patience_s, turn)
        if not tenant.backlog:
            self._weights += tenant.weight
        tenant.backlog += place.size
        return place.claim

    def _forget(self, claim: "Claim") -> None:
        tenant = claim.tenant
        tenant.backlog -= claim.place.size
        if not tenant.backlog:
            self._weights -= tenant.weight

    def _look_again(self, tenant: "Tenant[Claim]") -> None:
        while tenant.line and (rate := self.pace.rate) is not None:
            newest = self._queue.last(tenant)
            if self._clock() + tenant.waiting * self._weights / tenant.weight / rate <= newest.deadline:
                return
            self._evict(newest, "overtaken")

    def _evict(self, claim: "Claim", reason: Reason) -> None:
        if claim.place.state is not _QUEUED:
            return
        self.withdraw(claim.place)
        claim.place.state = _LEFT
        if not claim.turn.done():
            claim.turn.set_exception(self._refusal(reason, self.predicted_s(claim.tenant)))

    def _refusal(self, reason: Reason, predicted: float | None) -> Overloaded:
        self.refused[reason] += 1
        retry = _UNKNOWN_RETRY_S if predicted is None else float(math.ceil(max(1.0, predicted)))
        return Overloaded(
            f"the engine has more requests than it can answer in time; try again in {retry:.0f} s, "
            "which is what one more would wait at the rate measured now",
            code="rate_limit_exceeded",
            retry_after_s=retry,
        )


@dataclass(slots=True, eq=False)
class Claim:
    """What a request has that may have to wait; `turn` is done when it may enter. `deadline` is the loop's time."""

    place: "Place"
    tenant: "Tenant[Claim]"
    deadline: float
    turn: "asyncio.Future[None]"
    charged_s: float | None = None


class Place:
    """One request's place: nowhere, expected, in the queue, in the engine, and nowhere again."""

    __slots__ = ("_door", "claim", "entered", "name", "size", "state")

    def __init__(self, door: Door, tenant: str) -> None:
        self._door, self.name, self.state, self.size = door, tenant, _OUTSIDE, 1
        self.claim: Claim | None = None
        self.entered = 0.0

    def apply(self, size: int = 1) -> None:
        """Ask for an answer of so many sequences. Raises Overloaded with the time after which to ask again."""
        door, self.size = self._door, min(size, self._door.places)
        if door.inside < door.places:
            door.inside += self.size
            self.state = _EXPECTED
        else:
            door.apply(self)

    @property
    def turned_away(self) -> bool:
        """It waited and was refused, or has left: there is no second time."""
        return self.state is _LEFT

    async def enter(self) -> None:
        """Return when one of the engine's places is this request's; at once if it has one. Raises Overloaded."""
        door = self._door
        if self.state is _INSIDE:
            return
        if door.running < door.places and not door.queued:
            door.seat(self)
        else:
            await door.enter(self)

    def leave(self, *, completed: bool) -> None:
        """Give back what it holds; nothing if that is nothing. Call it at the end, whatever happened."""
        state, door = self.state, self._door
        if state is _INSIDE:
            self.state = _LEFT
            door.settle(self, completed=completed)
        elif state is _EXPECTED or state is _QUEUED:
            door.withdraw(self)
            self.state = _LEFT
