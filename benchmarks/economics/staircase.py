"""The self-hosted bill as a function of volume: a staircase, since half a replica cannot be rented."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from benchmarks.economics.fleet import ceil
from benchmarks.errors import ModelError

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Step:
    """One replica more, in some hours of the day: the monthly volume it adds there, and what it costs a month."""

    queries_per_month: Decimal
    usd_per_month: Decimal

    def __post_init__(self) -> None:
        if self.queries_per_month <= 0 or self.usd_per_month < 0:
            raise ModelError("a replica must add volume and cannot cost less than nothing")


@dataclass(frozen=True, slots=True)
class Piece:
    """Volumes above `low` up to and including `high`, over which the fleet stays as it is."""

    low: Decimal
    high: Decimal
    usd_per_month: Decimal


@dataclass(frozen=True, slots=True)
class Staircase:
    """Monthly self-hosted cost (formula 5). A fleet sized for its peak has one step; one that follows the hours of the
    day has one per hour, since each hour has its own number of replicas."""

    steps: tuple[Step, ...]
    min_replicas: int = 1
    spares: int = 0
    fixed_usd_per_month: Decimal = _ZERO
    usd_per_query: Decimal = _ZERO

    def replicas(self, volume: Decimal) -> tuple[int, ...]:
        """Replicas at `volume` queries a month, spares included: one number per step."""
        return tuple(max(self.min_replicas, ceil(volume / step.queries_per_month)) + self.spares for step in self.steps)

    def machines_usd(self, volume: Decimal) -> Decimal:
        """The machines' part of the bill."""
        pairs = zip(self.replicas(volume), self.steps, strict=True)
        return sum((count * step.usd_per_month for count, step in pairs), _ZERO)

    def usd(self, volume: Decimal) -> Decimal:
        """USD a month at `volume` queries a month."""
        return self.machines_usd(volume) + self.fixed_usd_per_month + volume * self.usd_per_query

    @property
    def machine_slope_usd(self) -> Decimal:
        """USD of machines per query when every replica is full: what no volume gets below."""
        return sum((step.usd_per_month / step.queries_per_month for step in self.steps), _ZERO)

    @property
    def slope_usd(self) -> Decimal:
        """USD per query at unlimited volume."""
        return self.machine_slope_usd + self.usd_per_query

    @property
    def floor_usd(self) -> Decimal:
        """The bill is never below this plus the slope times the volume."""
        return self.fixed_usd_per_month + self.spares * self._one_of_each

    @property
    def ceiling_usd(self) -> Decimal:
        """The bill is never above this plus the slope times the volume, once the smallest fleet is full."""
        return self.floor_usd + self._one_of_each

    @property
    def full_at(self) -> Decimal:
        """Volume up to which the smallest fleet suffices in every hour."""
        return max(step.queries_per_month for step in self.steps) * max(self.min_replicas, 1)

    @property
    def _one_of_each(self) -> Decimal:
        return sum((step.usd_per_month for step in self.steps), _ZERO)

    def pieces(self, low: Decimal, high: Decimal) -> Iterator[Piece]:
        """The flat pieces from `low` to `high`, each without its volume cost, in order."""
        counts = [max(self.min_replicas, ceil(low / step.queries_per_month), 1) for step in self.steps]
        ends = [(step.queries_per_month * count, index) for index, (step, count) in enumerate(self._with(counts))]
        heapq.heapify(ends)
        usd = self.floor_usd + sum((step.usd_per_month * count for step, count in self._with(counts)), _ZERO)
        while low < high:
            end, index = ends[0]
            if end > low:
                yield Piece(low, min(end, high), usd)
                low = end
            counts[index] += 1
            usd += self.steps[index].usd_per_month
            heapq.heapreplace(ends, (self.steps[index].queries_per_month * counts[index], index))

    def _with(self, counts: list[int]) -> list[tuple[Step, int]]:
        return list(zip(self.steps, counts, strict=True))

    def at_prices(self, machine_factor: Decimal) -> "Staircase":
        """The same fleet with machines at another price."""
        steps = tuple(Step(step.queries_per_month, step.usd_per_month * machine_factor) for step in self.steps)
        return replace(self, steps=steps)
