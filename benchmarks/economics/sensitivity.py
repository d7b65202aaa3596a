"""Which inputs the answer hangs on: each one moved by itself through what it could be (a tornado)."""

from dataclasses import dataclass
from decimal import Decimal

from benchmarks.economics.bills import hosted_bill, self_hosted
from benchmarks.economics.break_even import break_even
from benchmarks.economics.figures import Figure
from benchmarks.economics.scenario import Scenario, figures, limits, with_values


@dataclass(frozen=True, slots=True)
class Bar:
    """One input moved from `low` to `high`, all others as they are: the monthly saving and V_safe at either end."""

    name: str
    figure: Figure
    low: Decimal
    high: Decimal
    saved_at_low_usd: Decimal
    saved_at_high_usd: Decimal
    safe_at_low: Decimal | None
    safe_at_high: Decimal | None

    @property
    def width_usd(self) -> Decimal:
        """By how much the input moves the monthly saving."""
        return abs(self.saved_at_high_usd - self.saved_at_low_usd)


def tornado(scenario: Scenario, volume: Decimal) -> tuple[Bar, ...]:
    """The inputs that move the monthly saving at `volume`, the strongest first.

    An input moves through its own range, or a quarter either way; one whose range is its value was chosen and stays.
    """
    bars = (bar for name, figure in figures(scenario).items() if (bar := _bar(scenario, name, figure, volume)))
    return tuple(sorted(bars, key=lambda bar: bar.width_usd, reverse=True))


def _bar(scenario: Scenario, name: str, figure: Figure, volume: Decimal) -> Bar | None:
    least, most = limits(name)
    low, high = (min(max(end, least), most) for end in figure.swing())
    (saved_low, safe_low), (saved_high, safe_high) = (_at(scenario, name, end, volume) for end in (low, high))
    return Bar(name, figure, low, high, saved_low, saved_high, safe_low, safe_high) if saved_low != saved_high else None


def _at(scenario: Scenario, name: str, value: Decimal, volume: Decimal) -> tuple[Decimal, Decimal | None]:
    moved = with_values(scenario, {name: value})
    own, hosted = self_hosted(moved), hosted_bill(moved)
    return hosted.usd(volume) - own.usd(volume), break_even(own, hosted).safe
