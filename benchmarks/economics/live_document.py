"""What the live break-even found, as plain data for the endpoint and as gauges for Prometheus."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from benchmarks.economics.answer import HORIZON_MONTHS, Answer, Comparison
from benchmarks.economics.figures import Figure
from benchmarks.economics.terminal import headline
from benchmarks.economics.uncertainty import Quantiles
from serving.accounting.cost import money
from serving.accounting.economics import Gauge
from serving.accounting.ledger.statement import Statement

_INFINITE = float("inf")
# Gauges of what was measured: the figure, the gauge's name and what it means.
_MEASURED = (
    ("effective_utilisation", "breakeven_effective_utilisation", "Busy share of the billed time"),
    ("queries_per_month", "breakeven_queries_per_month", "Modelled: queries a month at the window's pace"),
)


def comparisons(found: Answer, queries: int) -> list[dict[str, Any]]:
    """A hosted model each; everything in it is modelled, from `inputs`."""
    return [_comparison(found, each, queries) for each in found.comparisons]


def _comparison(found: Answer, each: Comparison, queries: int) -> dict[str, Any]:
    where, draws = each.where, each.draws
    return {
        "model": each.model,
        "kind": "modelled",
        "same_traffic_usd": money(each.hosted.usd_per_query * queries),
        "usd_per_query": money(each.hosted.usd_per_query),
        "usd_per_month": _cents(each.hosted.usd(found.volume)),
        "self_hosted_usd_per_month": _cents(found.own.usd(found.volume)),
        "saved_usd_per_month": _cents(each.saved_usd),
        "pays_now": each.saved_usd >= 0,
        "pays_now_share_of_draws": round(draws.pays_share, 4),
        "break_even": {
            "never": where.never,
            "first_queries_per_month": _count(where.first),
            "safe_queries_per_month": _count(where.safe),
            "first_interval": _interval(draws.first_quantiles),
            "safe_interval": _interval(draws.safe_quantiles),
        },
        "payback_months": each.payback_month,
        "payback_horizon_months": HORIZON_MONTHS,
        "verdict": headline(found, each),
    }


def statement_of(bill: Statement) -> dict[str, Any]:
    """The bill and the parts that add up to it."""
    return {
        "billed_usd": money(bill.billed_usd),
        "requests_usd": money(bill.requests_usd),
        "requests_usage_usd": money(bill.requests_usage_usd),
        "lost_usd": money(bill.lost_usd),
        "in_progress_usd": money(bill.in_progress_usd),
        "idle_not_drawn_usd": money(bill.idle_not_drawn_usd),
        "down_usd": money(bill.down_usd),
        "difference_usd": money(bill.difference_usd),
        "requests": bill.requests,
        "billed_seconds": round(bill.billed_s, 3),
        "busy_seconds": round(bill.busy_s, 3),
        "host_seconds": round(bill.host_s, 3),
        "idle_seconds": round(bill.idle_s, 3),
        "down_seconds": round(bill.down_s, 3),
    }


def as_gauges(measured: Mapping[str, Figure], found: Answer | None) -> tuple[Gauge, ...]:
    """Nothing that is not measured yet; infinite where there is no such volume."""
    enough = Gauge(
        "breakeven_economics_measured", "1 once the window is enough for a break-even", {}, found is not None
    )
    return (enough, *_measured(measured), *(_modelled(found) if found is not None else ()))


def _measured(measured: Mapping[str, Figure]) -> Iterator[Gauge]:
    for basis, name in (("allocation", "usd_per_query"), ("usage", "usage_usd_per_query")):
        if name in measured:
            meaning = "The bill over the window's queries; usage: its busy and host share"
            yield Gauge("breakeven_query_cost_usd", meaning, {"basis": basis}, float(measured[name].value))
    for name, gauge, meaning in _MEASURED:
        if name in measured:
            yield Gauge(gauge, meaning, {}, float(measured[name].value))


def _modelled(found: Answer) -> Iterator[Gauge]:
    for each in found.comparisons:
        hosted, draws = {"hosted": each.model}, each.draws
        price = float(each.hosted.usd_per_query)
        yield Gauge("breakeven_hosted_query_cost_usd", "Modelled: a query of this traffic there", hosted, price)
        meaning = "Modelled: queries a month from which self-hosting pays: first, and safe for good; +Inf if never"
        for volume, point, interval in (
            ("first", each.where.first, draws.first_quantiles),
            ("safe", each.where.safe, draws.safe_quantiles),
        ):
            for bound, value in (("point", point), ("p5", interval.p5), ("p95", interval.p95)):
                labels = {**hosted, "volume": volume, "bound": bound}
                at = _INFINITE if value is None else float(value)
                yield Gauge("breakeven_break_even_queries_per_month", meaning, labels, at)
        saved = "Modelled: what self-hosting saves a month at the window's pace"
        yield Gauge("breakeven_saved_usd_per_month", saved, hosted, float(each.saved_usd))
        share = "Modelled: share of draws in which self-hosting pays at the window's pace"
        yield Gauge("breakeven_pays_share", share, hosted, draws.pays_share)
        months = _INFINITE if each.payback_month is None else float(each.payback_month)
        meaning = f"Modelled: months until the outlay is repaid; +Inf if not within {HORIZON_MONTHS}"
        yield Gauge("breakeven_payback_months", meaning, hosted, months)


def _interval(found: Quantiles) -> dict[str, Any]:
    ends = (found.p5, found.p50, found.p95)
    p5, p50, p95 = (None if end is None else round(end) for end in ends)
    return {"p5": p5, "p50": p50, "p95": p95, "never_share_of_draws": found.never_share}


def _count(volume: Decimal | None) -> int | None:
    return None if volume is None else round(volume)


def _cents(usd: Decimal) -> str:
    return f"{usd:.2f}"
