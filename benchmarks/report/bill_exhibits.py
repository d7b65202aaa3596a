"""The plots of where the money goes: the monthly bill in parts, and the rate that a hosted price asks for."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from matplotlib.figure import Figure as Canvas

from benchmarks.economics.answer import Answer
from benchmarks.economics.costs import people_usd_per_month
from benchmarks.economics.terminal import dollars
from benchmarks.experiments.findings import Variant
from benchmarks.prices import PriceBook
from benchmarks.report.cases import Case
from benchmarks.report.exhibit import (
    BAD,
    FAINT,
    GOOD,
    GRID,
    INK,
    OWN,
    SECOND,
    SERIES,
    THIRD,
    Exhibit,
    Table,
    count_axis,
    money_axis,
    share_axis,
    short,
)
from benchmarks.report.measured_exhibits import kind_of

_PARTS = (
    ("machines, busy", OWN),
    ("machines, busy on passages", GOOD),
    ("machines, idle", GRID),
    ("people", SECOND),
    ("retraining", THIRD),
    ("other fixed and per query", BAD),
)
RETRIEVAL = ("retrieval", "no_context")


@dataclass(frozen=True, slots=True)
class Bill:
    """A month in parts, USD, in the order of the plot's colours."""

    queries: Decimal
    parts: tuple[Decimal, ...]

    @property
    def total(self) -> Decimal:
        """All of it."""
        return sum(self.parts, Decimal(0))


def bill(answer: Answer, queries: Decimal, passages_share: Decimal) -> Bill:
    """The self-hosted month at a volume. `passages_share`: the part of the busy time that retrieved text takes."""
    machines = answer.own.machines_usd(queries)
    busy = min(machines, queries * answer.full_load_usd_per_query)
    upkeep = answer.scenario.upkeep
    people = people_usd_per_month(upkeep.fte.value, upkeep.wage_usd_per_year.value, upkeep.labour_overhead.value)
    retraining = answer.own.fixed_usd_per_month - people - upkeep.fixed_usd_per_month.value
    other = upkeep.fixed_usd_per_month.value + queries * answer.own.usd_per_query
    reading = busy * passages_share
    return Bill(queries, (busy - reading, reading, machines - busy, people, retraining, other))


def monthly_bill(case: Case, answer: Answer, known: str) -> Exhibit:
    """What the money buys, at a few volumes."""
    share = passages_share(case)
    queries = _apart(sorted({*answer.volumes(), answer.own.full_at}), answer.volume)
    bills = [bill(answer, at, share or Decimal(0)) for at in queries]
    at = next(each for each in bills if each.queries == answer.volume)
    people, idle = at.parts[3], at.parts[2]
    says = (
        f"At {short(answer.volume)} queries a month {dollars(at.total)} go out: "
        f"{_percent(people, at.total)} for people, {_percent(idle, at.total)} for machines that wait."
    )
    read = (
        f"Busy time on passages: {share:.0%}, from busy seconds with and without retrieval ({kind_of(case)})."
        if share is not None
        else "What the passages in the prompt take is not yet measured: no comparison of retrieval with no_context."
    )
    return Exhibit(
        "bill",
        "What a month pays for",
        says=says,
        known=f"Modelled. {read} {known}",
        alt=f"Shares of the self-hosted monthly bill at {len(bills)} volumes. {says}",
        table=Table(
            ("queries a month", *(name for name, _ in _PARTS), "total"),
            tuple((short(each.queries), *map(dollars, each.parts), dollars(each.total)) for each in bills),
        ),
        draw=lambda canvas: _draw_bill(canvas, bills),
    )


def _apart(volumes: Sequence[Decimal], kept: Decimal) -> list[Decimal]:
    """Those that differ enough to look different, the one that is talked about among them."""
    found: list[Decimal] = []
    for at in volumes:
        if at == kept or all(max(at, other) > 2 * min(at, other) for other in (*found, kept)):
            found.append(at)
    return found


def _percent(part: Decimal, whole: Decimal) -> str:
    return f"{part / whole:.0%}" if whole else "0%"


def passages_share(case: Case) -> Decimal | None:
    """The part of a query's busy time that goes away without retrieved text; None when nobody compared."""
    for sides in case.findings.comparisons.values():
        with_, without = (sides.get(name) for name in RETRIEVAL)
        if isinstance(with_, Variant) and isinstance(without, Variant) and with_.busy_gpu_s and without.busy_gpu_s:
            return Decimal(f"{max(0.0, 1 - without.busy_gpu_s / with_.busy_gpu_s):.4f}")
    return None


def _draw_bill(canvas: Canvas, bills: Sequence[Bill]) -> None:
    axes = canvas.subplots()
    rows = range(len(bills))
    left = np.zeros(len(bills))
    for index, (name, colour) in enumerate(_PARTS):
        shares = np.array([float(each.parts[index] / each.total) if each.total else 0.0 for each in bills])
        if shares.any():
            axes.barh(rows, shares, left=left, height=0.62, color=colour, label=name)
            left += shares
    for row, each in zip(rows, bills, strict=True):
        axes.annotate(dollars(each.total), (1.01, row), va="center", fontsize=8, annotation_clip=False)
    axes.set_yticks(rows, [short(each.queries) for each in bills])
    axes.set(xlim=(0, 1), ylabel="queries a month")
    share_axis(axes, "x")
    axes.grid(visible=False)
    axes.margins(x=0)
    canvas.legend(loc="outside lower center", ncols=2)
    axes.set_xlabel("share of the monthly bill; right: all of it")


def needed_rate(case: Case, answer: Answer, book: PriceBook) -> Exhibit:
    """Formula 9 the other way round: r* = price of the machine / (60 x API price of a query)."""
    hourly = float(answer.scenario.machines.usd_per_gpu_hour.value * answer.scenario.machines.gpus_per_replica.value)
    machines = [("this machine", hourly), *((row, float(book.gpu(row).usd_per_hour)) for row in ("a10g", "h100"))]
    rate = float(answer.capacity_queries_per_s) * 60
    prices = [(one.model, float(one.hosted.usd_per_query)) for one in answer.comparisons]
    rows = tuple(
        (model, short(price), *(short(usd / (60 * price)) for _, usd in machines), short(rate))
        for model, price in prices
    )
    model, price = prices[0]
    enough = rate >= hourly / (60 * price)
    says = (
        f"Never idle, this machine at ${hourly:.3g} an hour must answer {short(hourly / (60 * price))} queries a "
        f"minute to match {model}; it sustains {short(rate)}, which is {'enough' if enough else 'too few'} before "
        "people and idle time."
    )
    return Exhibit(
        "needed",
        "Rate that a hosted price asks for",
        says=says,
        known=f"Lines: calculated from the machine's price. Points: {kind_of(case)} rate within the objectives against "
        "quoted prices of the same tokens. Above its line, a full machine is cheaper. Nobody measured an A10G or an "
        "H100 here: their lines are thresholds.",
        alt=f"Queries a minute that a machine must answer, falling with the hosted price of a query. {says}",
        table=Table(
            ("hosted model", "$/query", *(f"needed, {name} at ${usd:g}/h" for name, usd in machines), "sustained"), rows
        ),
        draw=lambda canvas: _draw_needed(canvas, machines, prices, rate),
    )


def _draw_needed(
    canvas: Canvas, machines: Sequence[tuple[str, float]], prices: Sequence[tuple[str, float]], rate: float
) -> None:
    axes = canvas.subplots()
    span = np.geomspace(min(price for _, price in prices) / 4, max(price for _, price in prices) * 4, 60)
    for (name, usd), colour, style in zip(machines, (OWN, FAINT, FAINT), ("-", "--", ":"), strict=True):
        axes.plot(span, usd / (60 * span), color=colour, ls=style, lw=1.5, label=f"{name}, ${usd:g}/h")
    for (model, price), colour in zip(prices, SERIES, strict=False):
        axes.plot([price], [rate], "o", color=colour, ms=6, label=model)
    axes.axhline(rate, color=INK, lw=0.8, ls=":")
    axes.annotate("sustained", (1, rate), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=7.5)
    axes.set(xscale="log", yscale="log", xlabel="hosted price of a query, USD", ylabel="queries a minute, per replica")
    money_axis(axes, "x")
    count_axis(axes, "y")
    canvas.legend(loc="outside upper left", ncols=3)
