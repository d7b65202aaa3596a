"""Requests against a door in virtual time: who came, when, and what became of each."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.admission.door import Door, Place
from serving.errors import Overloaded


@dataclass(frozen=True)
class Ended:
    """One request. `waited_s` is until the engine or the refusal, `took_s` until the end."""

    tenant: str
    at: float
    outcome: str
    waited_s: float
    took_s: float
    retry_after_s: float | None = None


@dataclass
class Load:
    """Sends requests through `door`; each is in the engine for `service()` seconds."""

    door: Door
    service: Callable[[], float]
    ended: list[Ended] = field(default_factory=list)

    async def request(self, tenant: str, before_s: float = 0.0, size: int = 1) -> None:
        """One request; `before_s` passes between the door and the engine, as retrieval does."""
        loop = asyncio.get_running_loop()
        at, place = loop.time(), Place(self.door, tenant)
        completed, entered = False, None
        try:
            place.apply(size)
            if before_s:
                await asyncio.sleep(before_s)
            await place.enter()
            entered = loop.time()
            await asyncio.sleep(self.service())
            completed = True
        except Overloaded as error:
            took = loop.time() - at
            self.ended.append(Ended(tenant, at, "refused", took, took, error.retry_after_s))
        finally:
            place.leave(completed=completed)
        if entered is not None:
            self.ended.append(Ended(tenant, at, "complete", entered - at, loop.time() - at))

    async def poisson(
        self, tenant: str, rate: float, seconds: float, seed: int, before_s: float = 0.0, size: int = 1
    ) -> None:
        """Open loop: comes at `rate` per second whatever happens to earlier ones."""
        loop, dice = asyncio.get_running_loop(), random.Random(seed)
        async with asyncio.TaskGroup() as group:
            end = loop.time() + seconds
            while loop.time() < end:
                await asyncio.sleep(dice.expovariate(rate))
                group.create_task(self.request(tenant, before_s, size))

    def of(self, outcome: str, tenant: str | None = None, since: float = 0.0) -> list[Ended]:
        """Requests with this outcome that came since."""
        return [e for e in self.ended if e.outcome == outcome and tenant in (None, e.tenant) and e.at >= since]


def quantile(values: list[float], share: float) -> float:
    """The smallest value that `share` of them do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
