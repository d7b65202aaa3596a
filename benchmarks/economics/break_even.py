"""The volumes at which self-hosting costs no more than a hosted model (formula 9): a set, not a number.

A new replica can cost more than the last queries saved, so there may be islands below the volume from which it always
pays. Everything is exact: the staircase is flat between its steps, so each piece is solved by itself.
"""

from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from benchmarks.economics.hosted import HostedBill
from benchmarks.economics.staircase import Piece, Staircase

# With a margin so thin that it takes more steps than this, islands are not searched for.
_MOST_PIECES = 10_000
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Interval:
    """Queries a month from `low` to `high`, both included; None: without end."""

    low: Decimal
    high: Decimal | None

    def __contains__(self, volume: Decimal) -> bool:
        return self.low <= volume and (self.high is None or volume <= self.high)


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where self-hosting pays. `exact` is false when thin margins kept the islands from being listed."""

    intervals: tuple[Interval, ...]
    exact: bool = True

    @property
    def never(self) -> bool:
        """At no volume."""
        return not self.intervals

    @property
    def first(self) -> Decimal | None:
        """V_first: the lowest volume at which it pays; None: never."""
        return self.intervals[0].low if self.intervals else None

    @property
    def safe(self) -> Decimal | None:
        """V_safe: the volume from which it pays at every higher one; None: there is no such volume."""
        return self.intervals[-1].low if self.intervals and self.intervals[-1].high is None else None

    @property
    def islands(self) -> tuple[Interval, ...]:
        """Where it pays, although it does not at some higher volume."""
        return tuple(interval for interval in self.intervals if interval.high is not None)

    def pays(self, volume: Decimal) -> bool:
        """Whether it pays at `volume` queries a month."""
        return any(volume in interval for interval in self.intervals)


def break_even(own: Staircase, hosted: HostedBill) -> BreakEven:
    """The set of monthly volumes at which the self-hosted bill is at most the hosted one. A mere tie is no saving."""
    margin = hosted.usd_per_query - own.slope_usd
    if margin > 0:
        start = max(_ZERO, (own.floor_usd - hosted.usd_per_month) / margin)
        end = max((own.ceiling_usd - hosted.usd_per_month) / margin, own.full_at)
        if _count(own, end - start) > _MOST_PIECES:
            return BreakEven((Interval(end, None),), exact=False)
        found = _solve(own, hosted, start, end)
        return BreakEven(_merge([*found, Interval(end, None)]))
    if margin == 0:
        always = hosted.usd_per_month >= own.ceiling_usd
        found = _solve(own, hosted, _ZERO, own.full_at)
        return BreakEven(_merge([*found, *([Interval(own.full_at, None)] if always else [])]))
    # Only a hosted bill with a dear fixed part can lose, and only to small volumes.
    end = max(_ZERO, (hosted.usd_per_month - own.floor_usd) / -margin)
    if _count(own, end) > _MOST_PIECES:
        return BreakEven((), exact=False)
    return BreakEven(_merge(_solve(own, hosted, _ZERO, end)))


def _count(own: Staircase, width: Decimal) -> Decimal:
    return sum((width / step.queries_per_month for step in own.steps), _ZERO)


def _solve(own: Staircase, hosted: HostedBill, start: Decimal, end: Decimal) -> list[Interval]:
    solved = (_within(piece, own.usd_per_query, hosted) for piece in own.pieces(start, end))
    return [interval for interval in solved if interval is not None]


def _within(piece: Piece, usd_per_query: Decimal, hosted: HostedBill) -> Interval | None:
    """The part of a flat piece over which it pays."""
    saving = hosted.usd_per_query - usd_per_query
    owed = piece.usd_per_month - hosted.usd_per_month
    low, high = piece.low, piece.high
    if saving > 0:
        low = max(low, owed / saving)
    elif saving < 0:
        high = min(high, owed / saving)
    elif owed > 0:
        return None
    return Interval(low, high) if low < high else None


def _merge(found: list[Interval]) -> tuple[Interval, ...]:
    """Neighbours that touch become one."""
    merged = found[:1]
    for before, after in pairwise(found):
        if before.high is not None and after.low <= before.high:
            merged[-1] = Interval(merged[-1].low, after.high)
        else:
            merged.append(after)
    return tuple(merged)


@dataclass(frozen=True, slots=True)
class Missing:
    """What it would take to break even, one thing at a time, when no volume does.

    `rate_factor`: by how much more a replica would have to sustain; None when no rate would do, since the cost per
    query alone exceeds the hosted price. `api_usd_per_query`: the hosted price above which a volume would exist.
    """

    rate_factor: Decimal | None
    api_usd_per_query: Decimal


def missing(own: Staircase, hosted: HostedBill) -> Missing:
    """Why there is no volume from which self-hosting always pays."""
    room = hosted.usd_per_query - own.usd_per_query
    return Missing(own.machine_slope_usd / room if room > 0 else None, own.slope_usd)


def required_queries_per_minute(
    usd_per_hour: Decimal, api_usd_per_query: Decimal, usd_per_query: Decimal = _ZERO
) -> Decimal | None:
    """r*: what one machine at `usd_per_hour` must sustain to match a hosted price; None when no rate would do."""
    room = api_usd_per_query - usd_per_query
    return usd_per_hour / (60 * room) if room > 0 else None
