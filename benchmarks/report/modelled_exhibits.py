"""The plots of the model's answer over volumes and over months."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from matplotlib.figure import Figure as Canvas

from benchmarks.economics.answer import HORIZON_MONTHS, Answer, Comparison, trends_of
from benchmarks.economics.bills import self_hosted
from benchmarks.economics.horizon import months_ahead
from benchmarks.economics.scenario import Scenario, with_values
from benchmarks.economics.terminal import dollars, volume
from benchmarks.economics.uncertainty import bill_band
from benchmarks.report.exhibit import (
    FAINT,
    OWN,
    SERIES,
    SHADE,
    Exhibit,
    Table,
    count_axis,
    money_axis,
    short,
)
from benchmarks.report.thresholds import Threshold

_POINTS = 260
_BAND_POINTS = 40
_BAND_DRAWS = 200


def cost_by_volume(answer: Answer, thresholds: Sequence[Threshold], known: str) -> Exhibit:
    """The staircase against the hosted lines, and what the documents say about volumes."""
    first = answer.comparisons[0]
    volumes = _span(answer, thresholds)
    return Exhibit(
        "volume",
        "Monthly cost by volume",
        says=_where(first),
        known=f"Lines: modelled. Band: where 90 % of {_BAND_DRAWS} draws lie. {known} "
        "Dotted: volumes that the documents name.",
        alt=f"Monthly cost of self-hosting, a staircase, and of {', '.join(one.model for one in answer.comparisons)}, "
        f"over {short(volumes[0])} to {short(volumes[-1])} queries a month. {_where(first)}",
        table=Table(
            ("queries a month", "replicas", "self-hosted", *(one.model for one in answer.comparisons)),
            tuple(
                (volume(at), str(max(answer.own.replicas(at))), dollars(answer.own.usd(at)),
                 *(dollars(one.hosted.usd(at)) for one in answer.comparisons))
                for at in sorted({*answer.volumes(), *(each.queries for each in thresholds)})
            ),
        ),
        draw=lambda canvas: _draw_volume(canvas, answer, thresholds, volumes),
        height=1.1,
    )  # fmt: skip


def _span(answer: Answer, thresholds: Sequence[Threshold]) -> list[float]:
    marks = [float(mark) for mark in answer.volumes()] + [float(each.queries) for each in thresholds]
    return [float(at) for at in np.geomspace(max(1000.0, min(marks) / 2), max(marks) * 2, _POINTS)]


def _where(one: Comparison) -> str:
    where = one.where
    if where.never:
        return f"Self-hosting costs more than {one.model} at every volume."
    if where.safe is None or where.first is None:
        return f"Self-hosting is cheaper than {one.model} at some volumes only."
    first = "" if where.first == where.safe else f", first at {short(where.first)}"
    return f"Self-hosting is cheaper than {one.model} from {short(where.safe)} queries a month on{first}."


def _draw_volume(canvas: Canvas, answer: Answer, thresholds: Sequence[Threshold], volumes: Sequence[float]) -> None:
    axes = canvas.subplots()
    exact = [Decimal(at) for at in volumes]
    few = [Decimal(float(at)) for at in np.geomspace(volumes[0], volumes[-1], _BAND_POINTS)]
    band = bill_band(answer.scenario, few, _BAND_DRAWS)
    for interval in answer.comparisons[0].where.intervals:
        high = float(interval.high) if interval.high is not None else volumes[-1]
        axes.axvspan(max(float(interval.low), volumes[0]), high, color=SHADE, lw=0, zorder=0)
    axes.fill_between(band.volumes, [low for low, _ in band.own_usd], [high for _, high in band.own_usd],
                      color=OWN, alpha=0.18, lw=0)  # fmt: skip
    axes.plot(volumes, [float(answer.own.usd(at)) for at in exact], color=OWN, lw=2, label="self-hosted")
    for one, colour in zip(answer.comparisons, SERIES, strict=False):
        axes.plot(volumes, [float(one.hosted.usd(at)) for at in exact], color=colour, lw=1.5, label=one.model)
    for each in thresholds:
        axes.axvline(float(each.queries), color=FAINT, lw=0.9, ls=":")
        axes.annotate(each.claim, (float(each.queries), 1), xycoords=("data", "axes fraction"), fontsize=7.5,
                      color=FAINT, ha="center", va="bottom")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="queries a month", ylabel="USD a month")
    axes.set_xlim(volumes[0], volumes[-1])
    canvas.legend(loc="outside upper left", ncols=4)
    count_axis(axes)
    money_axis(axes)


def ahead(answer: Answer, known: str) -> Exhibit:
    """24 months with retraining every quarter, as the documents price it."""
    first = answer.comparisons[0]
    plain, retrained = _spent(answer, 0), _spent(answer, 3)
    hosted = {one.model: _hosted_spent(answer, one) for one in answer.comparisons}
    gap = plain[-1] - hosted[first.model][-1]
    says = (
        f"At {short(answer.volume)} queries a month, {HORIZON_MONTHS} months of self-hosting cost "
        f"{dollars(Decimal(abs(gap)))} {'more' if gap > 0 else 'less'} than {first.model}, set-up included; retraining "
        f"an adapter every quarter adds {dollars(Decimal(retrained[-1] - plain[-1]))}."
    )
    months = (0, 6, 12, 18, 24)
    return Exhibit(
        "months",
        "24 months, summed",
        says=says,
        known=f"Modelled. {known} Lines that leave the frame cost more than it shows.",
        alt=f"Cumulative cost over 24 months, with and without quarterly retraining, beside hosted models. {says}",
        table=Table(
            ("month", "self-hosted", "retrained every quarter", *hosted),
            tuple(
                (str(month), dollars(Decimal(plain[month])), dollars(Decimal(retrained[month])),
                 *(dollars(Decimal(spent[month])) for spent in hosted.values()))
                for month in months
            ),
        ),
        draw=lambda canvas: _draw_ahead(canvas, plain, retrained, hosted),
    )  # fmt: skip


def _without_retraining(answer: Answer) -> Scenario:
    return with_values(answer.scenario, {"retrains_per_month": Decimal(0)})


def retrain_cost_usd(answer: Answer) -> float:
    """One retraining: GPU time, evaluation, labour."""
    once = self_hosted(with_values(answer.scenario, {"retrains_per_month": Decimal(1)}))
    return float(once.fixed_usd_per_month - self_hosted(_without_retraining(answer)).fixed_usd_per_month)


def _spent(answer: Answer, every: int) -> list[float]:
    """USD spent by the end of each month, the set-up in month 0; a retraining every so many months, 0 for none."""
    own = self_hosted(_without_retraining(answer))
    hosted = answer.comparisons[0].hosted
    months = months_ahead(own, hosted, answer.volume, HORIZON_MONTHS, trends_of(answer.scenario))
    spent = [float(answer.scenario.upkeep.setup_usd.value)]
    for month in months:
        retrained = retrain_cost_usd(answer) if every and month.number % every == 0 else 0.0
        spent.append(spent[-1] + float(month.own_usd) + retrained)
    return spent


def _hosted_spent(answer: Answer, one: Comparison) -> list[float]:
    spent = [0.0]
    for month in months_ahead(answer.own, one.hosted, answer.volume, HORIZON_MONTHS, trends_of(answer.scenario)):
        spent.append(spent[-1] + float(month.hosted_usd))
    return spent


def _draw_ahead(
    canvas: Canvas, plain: Sequence[float], retrained: Sequence[float], hosted: dict[str, list[float]]
) -> None:
    axes = canvas.subplots()
    months = range(HORIZON_MONTHS + 1)
    axes.plot(months, plain, color=OWN, lw=2, label="self-hosted")
    axes.step(months, retrained, color=OWN, lw=1.3, ls="--", where="post", label="with a retraining each quarter")
    for (model, spent), colour in zip(hosted.items(), SERIES, strict=False):
        axes.plot(months, spent, color=colour, lw=1.5, label=model)
    most = max(retrained[-1], next(iter(hosted.values()))[-1])
    axes.set(xlabel="month", ylabel="USD spent", xlim=(0, HORIZON_MONTHS), ylim=(0, 1.35 * most))
    axes.set_xticks(range(0, HORIZON_MONTHS + 1, 6))
    money_axis(axes)
    canvas.legend(loc="outside upper left", ncols=2)
