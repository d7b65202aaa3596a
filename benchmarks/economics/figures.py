"""A number that says how we know it. Measured, modelled, assumed and quoted are never mixed silently."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from benchmarks.errors import ModelError

Kind = Literal["measured", "modelled", "assumed", "quoted"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# How far an assumption that names no range of its own may be off, as a share of its value.
DEFAULT_SPREAD = Decimal("0.25")


@dataclass(frozen=True, slots=True)
class Figure:
    """A value, how it is known and from where; the unit is in the name of the field that holds it.

    `low` and `high` bound what it could plausibly be (both or neither). `as_of` is the day a quoted price was seen.
    ModelError when the bounds do not hold the value.
    """

    value: Decimal
    kind: Kind
    source: str
    low: Decimal | None = None
    high: Decimal | None = None
    as_of: str | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ModelError(f"kind {self.kind!r} must be one of {', '.join(KINDS)}")
        if (self.low is None) != (self.high is None):
            raise ModelError(f"{self.source}: give both low and high, or neither")
        numbers = [number for number in (self.low, self.value, self.high) if number is not None]
        if not all(number.is_finite() for number in numbers) or numbers != sorted(numbers):
            raise ModelError(f"{self.source}: low <= value <= high must hold, not {' '.join(map(str, numbers))}")

    def bounds(self) -> tuple[Decimal, Decimal]:
        """What it may be, for draws: its own range; a quarter either way for a bare assumption; else itself."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        return self.swing() if self.kind == "assumed" else (self.value, self.value)

    def swing(self) -> tuple[Decimal, Decimal]:
        """What to try it at, for a sensitivity: its own range, else a quarter either way whatever its kind."""
        if self.low is not None and self.high is not None:
            return self.low, self.high
        spread = abs(self.value) * DEFAULT_SPREAD
        return self.value - spread, self.value + spread


def assumed(value: str | int, source: str, low: str | None = None, high: str | None = None) -> Figure:
    """A figure that nobody measured or quoted; `source` says whose assumption it is."""
    bounds = (None, None) if low is None or high is None else (Decimal(low), Decimal(high))
    return Figure(Decimal(value), "assumed", source, *bounds)


def quoted(value: Decimal, source: str, as_of: str) -> Figure:
    """A published price."""
    return Figure(value, "quoted", source, as_of=as_of)


def bounded(low: float, value: float, high: float, kind: Kind, source: str) -> Figure:
    """A figure with the interval of an estimate, whose percentiles may leave the estimate itself outside."""
    least, middle, most = (Decimal(repr(number)) for number in (low, value, high))
    return Figure(middle, kind, source, min(least, middle), max(most, middle))
