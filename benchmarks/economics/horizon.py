"""Months ahead: growth, falling prices, the sum of what was saved, and when it repays the outlay (formula 10)."""

from dataclasses import dataclass
from decimal import Decimal
from itertools import accumulate

from benchmarks.economics.hosted import HostedBill
from benchmarks.economics.staircase import Staircase

_ZERO = Decimal(0)
_ONE = Decimal(1)


@dataclass(frozen=True, slots=True)
class Trends:
    """Shares of change: volume per month, prices per year (falling ones positive)."""

    growth_per_month: Decimal = _ZERO
    api_price_decline_per_year: Decimal = _ZERO
    gpu_price_decline_per_year: Decimal = _ZERO


@dataclass(frozen=True, slots=True)
class Month:
    """One month: number from 1, queries, both bills and what has been saved up to its end, without the outlay."""

    number: int
    volume: Decimal
    own_usd: Decimal
    hosted_usd: Decimal
    saved_usd: Decimal


def months_ahead(
    own: Staircase, hosted: HostedBill, volume: Decimal, months: int, trends: Trends | None = None
) -> tuple[Month, ...]:
    """The coming months, the first at today's volume and prices."""
    trends = trends or Trends()
    bills = [_bills(own, hosted, volume, elapsed, trends) for elapsed in range(months)]
    saved = accumulate(theirs - ours for _, ours, theirs in bills)
    return tuple(Month(number, *bill, total) for number, (bill, total) in enumerate(zip(bills, saved, strict=True), 1))


def _bills(
    own: Staircase, hosted: HostedBill, volume: Decimal, elapsed: int, trends: Trends
) -> tuple[Decimal, Decimal, Decimal]:
    years = Decimal(elapsed) / 12
    then = volume * (_ONE + trends.growth_per_month) ** elapsed
    price = hosted.usd_per_query * (_ONE - trends.api_price_decline_per_year) ** years
    machines = (_ONE - trends.gpu_price_decline_per_year) ** years
    return then, own.at_prices(machines).usd(then), HostedBill(price, hosted.usd_per_month).usd(then)


def payback_month(months: tuple[Month, ...], outlay_usd: Decimal) -> int | None:
    """The first month by whose end the savings have repaid the outlay; None when none of these months does."""
    return next((month.number for month in months if month.saved_usd >= outlay_usd), None)


def payback_months(outlay_usd: Decimal, saved_usd_per_month: Decimal) -> Decimal | None:
    """Months until a steady saving repays the outlay; None when nothing is saved."""
    return outlay_usd / saved_usd_per_month if saved_usd_per_month > 0 else None
