"""A queue that is fair to tenants: weighted start-time fair queueing over the seconds that requests hold the engine.

Each tenant waits in a line of its own. The next request comes from the tenant whose clock is least; that clock then
goes on by what the request is expected to take, over the tenant's weight, and by what earlier ones really took more or
less than expected. A tenant that comes back starts at the clock of the one served last: waiting earns no credit. When
nobody waits any more all accounts are closed: who had an empty engine to itself owes nothing. O(log tenants) per
request.
"""

import heapq
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Tenant(Generic[T]):
    """One tenant's line. `backlog` and `waiting` are for who uses the queue: what will wait or does, and what does."""

    weight: float
    backlog: int = 0
    waiting: int = 0
    line: "OrderedDict[T, None]" = field(default_factory=OrderedDict)
    clock: float = 0.0
    owed: float = 0.0
    period: int = 0
    listed: bool = False


class FairQueue(Generic[T]):
    """Items by tenant; they must be hashable and are waiting at most once."""

    def __init__(self, weight: Callable[[str], float]) -> None:
        self._weight = weight
        self._tenants: dict[str, Tenant[T]] = {}
        self._listed: list[tuple[float, int, Tenant[T]]] = []
        self._order = count()
        self._now = self._latest = 0.0
        self._length = self._period = 0

    def __len__(self) -> int:
        return self._length

    def tenant(self, name: str) -> Tenant[T]:
        """The line of a tenant. There are as many as operators have named, so they are kept."""
        found = self._tenants.get(name)
        if found is None:
            found = self._tenants[name] = Tenant(self._weight(name))
        return found

    def push(self, tenant: Tenant[T], item: T) -> None:
        """At the end of the tenant's line."""
        tenant.line[item] = None
        self._length += 1
        if not tenant.listed:
            tenant.clock = max(tenant.clock, self._now)
            self._list(tenant)

    def remove(self, tenant: Tenant[T], item: T) -> None:
        """Out of the line, from wherever it is in it."""
        del tenant.line[item]
        self._shorten()

    def pop(self, expected_s: Callable[[T], float]) -> T | None:
        """Whose turn it is, None if nobody waits. `expected_s` says what its request will take; see `correct`."""
        while self._listed:
            clock, _, tenant = heapq.heappop(self._listed)
            tenant.listed = False
            if not tenant.line:  # those who waited have left
                continue
            item, _ = tenant.line.popitem(last=False)
            self._now = max(self._now, clock)
            tenant.clock += (expected_s(item) + self._owed(tenant)) / tenant.weight
            tenant.owed = 0.0
            self._latest = max(self._latest, tenant.clock)
            if tenant.line:
                self._list(tenant)
            self._shorten()
            return item
        return None

    def last(self, tenant: Tenant[T]) -> T:
        """The newest in the tenant's line, which must not be empty."""
        return next(reversed(tenant.line))

    def correct(self, tenant: Tenant[T], seconds: float) -> None:
        """A request of this tenant took so much more (or less, negative) than was expected when it was popped."""
        tenant.owed = self._owed(tenant) + seconds
        tenant.period = self._period

    def debt(self, tenant: Tenant[T]) -> float:
        """How far the tenant's clock is ahead of the one served last: seconds that each unit of others' weight gets
        before this tenant's first request."""
        return max(0.0, tenant.clock + self._owed(tenant) / tenant.weight - self._now)

    def _owed(self, tenant: Tenant[T]) -> float:
        return tenant.owed if tenant.period == self._period else 0.0

    def _list(self, tenant: Tenant[T]) -> None:
        tenant.listed = True
        heapq.heappush(self._listed, (tenant.clock, next(self._order), tenant))

    def _shorten(self) -> None:
        self._length -= 1
        if not self._length:
            self._now = self._latest
            self._period += 1
