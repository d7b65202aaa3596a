"""Where in a range a claim is true: the threshold by inversion."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise

from benchmarks.claims.claim import Expectation
from benchmarks.claims.expression import Range

_STEPS = 120
_HALVINGS = 45


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a range; None: to the range's end."""

    low: Decimal | None
    high: Decimal | None


def spans(function: Callable[[Decimal], Decimal], searched: Range, expect: Expectation) -> tuple[Span, ...]:
    """The parts of a range in which the function gives what is expected, from low to high.

    Between neighbouring steps of the grid (120 of them) a bound is taken to be crossed once at most.
    """
    grid = _grid(searched)
    values = [(at, function(at)) for at in grid]
    edges = [searched.low]
    for (left, low), (right, high) in pairwise(values):
        crossed = [
            bound for bound in expect.bounds if (low < bound) != (high < bound) or (low > bound) != (high > bound)
        ]
        edges += sorted(_crossing(function, bound, left, right) for bound in crossed)
    edges.append(searched.high)
    true = [
        (low, high)
        for low, high in pairwise(edges)
        if low < high and expect.met_by(function(_between(low, high, searched)))
    ]
    return tuple(
        Span(None if low == searched.low else low, None if high == searched.high else high)
        for low, high in _joined(true)
    )


def _grid(searched: Range) -> list[Decimal]:
    shares = [Decimal(step) / _STEPS for step in range(_STEPS + 1)]
    if searched.linear:
        return [searched.low + share * (searched.high - searched.low) for share in shares]
    whole = (searched.high / searched.low).ln()
    return [searched.low, *(searched.low * (share * whole).exp() for share in shares[1:-1]), searched.high]


def _between(low: Decimal, high: Decimal, searched: Range) -> Decimal:
    return (low + high) / 2 if searched.linear else (low * high).sqrt()


def _crossing(function: Callable[[Decimal], Decimal], bound: Decimal, left: Decimal, right: Decimal) -> Decimal:
    """Where the function passes the bound, within the last bit of a halving."""
    below = function(left) < bound
    at_left = function(left) == bound
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        value = function(middle)
        same = value == bound if at_left else (value < bound) == below and value != bound
        left, right = (middle, right) if same else (left, middle)
    return right


def _joined(parts: list[tuple[Decimal, Decimal]]) -> list[tuple[Decimal, Decimal]]:
    joined: list[tuple[Decimal, Decimal]] = []
    for low, high in parts:
        if joined and joined[-1][1] == low:
            joined[-1] = (joined[-1][0], high)
        else:
            joined.append((low, high))
    return joined
