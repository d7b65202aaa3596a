"""The plots of what was measured: latency by rate, cost by utilisation."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.economics.answer import Answer
from benchmarks.economics.sweep import SloRate
from benchmarks.experiments.findings import Gap, Level, Window
from benchmarks.load.plan import Slo
from benchmarks.report.cases import Case
from benchmarks.report.exhibit import (
    FAINT,
    GOOD,
    HOSTED,
    INK,
    OWN,
    SHADE,
    Exhibit,
    Table,
    count_axis,
    money_axis,
    not_measured,
    seconds,
    share_axis,
    short,
)

RUN = "breakeven experiment run PLAN.yaml"
_SWEEP = ("latency", "Latency and goodput by rate")
# Times as much that is worth a number.
_MORE = 1.05
_COST = ("utilisation", "Cost of a query by utilisation")


def kind_of(case: Case) -> str:
    """How what the results hold is known: a simulation measures nothing."""
    return "simulated" if case.fingerprint.simulated else "measured"


def latency(case: Case) -> Exhibit:
    """Formula 2, as it was found."""
    sweep = case.findings.sweep
    if isinstance(sweep, Gap):
        return not_measured(*_SWEEP, sweep.why, f"{RUN}, with a step of kind sweep")
    rate, slo = sweep.rate, case.objectives
    if isinstance(rate, Gap):
        says = f"No rate within the objectives: {rate.why}."
    else:
        says = f"One replica sustains {_rate(rate)} within its objectives: {objectives(slo)}{_open(rate)}."
    levels = sweep.levels
    return Exhibit(
        *_SWEEP,
        says=says,
        known=f"Points: {kind_of(case)}, {sum(level.runs for level in levels)} open-loop runs of "
        f"{sum(level.sent for level in levels)} requests to {sweep.model}, timed by the client from the intended "
        f"start. The rate between two points is interpolated, never beyond them.{_cached(case)}",
        alt=f"Two plots over {short(levels[0].rate)} to {short(levels[-1].rate)} requests a second. Above, 95th "
        f"percentiles of the time to the first token and to the whole answer; below, goodput. {says}",
        table=Table(
            ("requests/s", "runs", "requests", "first token p50", "p95", "whole answer p95", "goodput/s"),
            tuple(_level(level) for level in levels),
        ),
        draw=lambda canvas: _draw_latency(canvas, levels, rate, slo),
        height=1.25,
    )


def _cached(case: Case) -> str:
    seen = case.findings.traffic
    if isinstance(seen, Gap) or not seen.cached_prompt_tokens:
        return ""
    share = seen.cached_prompt_tokens / seen.prompt_tokens
    return f" {share:.0%} of the prompt tokens came from the engine's prefix cache."


def objectives(slo: Slo) -> str:
    """In words."""
    named = (("first token", slo.ttft_s), ("between tokens", slo.itl_s), ("whole answer", slo.e2e_s))
    said = [f"{name} {bound:g} s" for name, bound in named if bound is not None]
    return f"{', '.join(said)} (95 % of requests)" if said else "none"


def _rate(rate: SloRate) -> str:
    bounds = "" if rate.low is None or rate.high is None else f" (95 %: {short(rate.low)} to {short(rate.high)})"
    return f"{short(rate.queries_per_s)} requests a second{bounds}"


def _open(rate: SloRate) -> str:
    return ", at least: the fastest rate tried kept them" if rate.open_ended else ""


def _level(level: Level) -> tuple[str, ...]:
    times = (level.ttft_p50_s, level.ttft_p95_s, level.e2e_p95_s)
    return (f"{level.rate:g}", str(level.runs), str(level.sent), *map(seconds, times), short(level.good_per_s))


def _draw_latency(canvas: Canvas, levels: Sequence[Level], rate: SloRate | Gap, slo: Slo) -> None:
    above, below = canvas.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    rates = [level.rate for level in levels]
    series = (
        ("first token, p95", OWN, "ttft_p95_s", slo.ttft_s),
        ("whole answer, p95", HOSTED, "e2e_p95_s", slo.e2e_s),
    )
    for name, colour, field, bound in series:
        times = [time if isfinite(time := getattr(level, field)) else np.nan for level in levels]
        above.plot(rates, times, color=colour, marker="o", ms=4, label=name)
        if bound is not None:
            above.axhline(bound, color=colour, lw=1, ls="--")
            above.annotate(f"objective {bound:g} s", (0, bound), xycoords=("axes fraction", "data"), xytext=(2, 2),
                           textcoords="offset points", fontsize=7.5, color=colour)  # fmt: skip
    above.set_yscale("log")
    above.set_ylabel("seconds")
    count_axis(above, "y")
    below.plot(rates, rates, color=FAINT, lw=1, ls=":", label="all that were asked")
    below.plot(rates, [level.good_per_s for level in levels], color=GOOD, marker="o", ms=4, label="goodput")
    below.set(xlabel="requests a second (Poisson)", ylabel="answers a second", ylim=(0, None))
    for axes in (above, below):
        _mark_rate(axes, rate)
    above.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2)
    below.legend(loc="upper left")


def _mark_rate(axes: Axes, rate: SloRate | Gap) -> None:
    if isinstance(rate, Gap):
        return
    if rate.low is not None and rate.high is not None:
        axes.axvspan(rate.low, rate.high, color=SHADE, lw=0, zorder=0)
    axes.axvline(rate.queries_per_s, color=INK, lw=1)


def cost_by_utilisation(case: Case) -> Exhibit:
    """The gateway's meter, run by run, against what the model says of idle time."""
    sweep, answer = case.findings.sweep, case.answer
    if isinstance(sweep, Gap):
        return not_measured(*_COST, sweep.why, f"{RUN}, with a step of kind sweep")
    windows = [window for window in case.findings.windows if window.model == sweep.model]
    if not windows:
        why = "the endpoint is no Breakeven gateway, so nothing metered its busy and idle time"
        return not_measured(*_COST, why, f"{RUN} --url of a running `breakeven serve`")
    if isinstance(answer, Gap):
        return not_measured(*_COST, answer.why, f"{RUN}, with a step of kind sweep")
    rate = float(answer.capacity_queries_per_s)
    points = sorted((_point(window, rate) for window in windows), key=lambda point: point.load)
    least = points[0]
    ratio = least.window.allocation_usd / least.window.usage_usd if least.window.usage_usd else 0.0
    more = f"{ratio:.2g} times its busy share" if ratio >= _MORE else "hardly more than its busy share"
    says = (
        f"At {least.load:.0%} of what the machine could serve, a query cost {more}: "
        f"${short(least.window.allocation_usd)} with idle time, ${short(least.window.usage_usd)} without."
    )
    return Exhibit(
        *_COST,
        says=says,
        known=f"Points: {kind_of(case)} by the gateway's meter, one per run of the sweep. Line: modelled, the "
        "machine's price over the rate within the objectives and the utilisation (formula 7). Hosted price: quoted.",
        alt=f"Cost per query falls as utilisation grows from {least.load:.0%} to {points[-1].load:.0%}. {says}",
        table=Table(
            ("run", "utilisation", "busy share", "allocation $/query", "usage $/query", "answers"),
            tuple(_row(point) for point in points),
        ),
        draw=lambda canvas: _draw_cost(canvas, points, answer),
    )


@dataclass(frozen=True, slots=True)
class _Point:
    """A run; `load`: its answers a second over the rate within the objectives."""

    load: float
    window: Window


def _point(window: Window, rate: float) -> _Point:
    return _Point(window.answered / window.billed_gpu_s / rate, window)


def _row(point: _Point) -> tuple[str, ...]:
    window = point.window
    costs = (short(window.allocation_usd), short(window.usage_usd))
    return (window.cell, f"{point.load:.0%}", f"{window.utilisation:.0%}", *costs, str(window.answered))


def _draw_cost(canvas: Canvas, points: Sequence[_Point], answer: Answer) -> None:
    axes = canvas.subplots()
    first = answer.comparisons[0]
    # Abstentions cost the machine nothing, and what is counted here are answers.
    full = float(answer.full_load_usd_per_query / (1 - answer.scenario.workload.abstain_share.value))
    shares = np.linspace(0.04, max(1.0, points[-1].load), 80)
    axes.plot(shares, full / shares, color=FAINT, lw=1.2, label="model, idle time included")
    loads = [point.load for point in points]
    for name, colour, mark, field in (
        ("allocation cost, idle included", OWN, "o", "allocation_usd"),
        ("usage cost, busy share only", GOOD, "^", "usage_usd"),
    ):
        axes.plot(loads, [getattr(point.window, field) for point in points], mark, color=colour, ms=5, label=name)
    price = float(first.hosted.usd_per_query)
    axes.axhline(price, color=HOSTED, lw=1, ls="--", label=f"{first.model}, the same tokens")
    axes.set(yscale="log", xlabel="answers over the rate within the objectives", ylabel="USD per query", xlim=(0, None))
    share_axis(axes, "x")
    money_axis(axes)
    canvas.legend(loc="outside upper left", ncols=2)
