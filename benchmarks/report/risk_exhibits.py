"""The plots of how sure it is: who wins where, what the answer hangs on, and the draws."""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from benchmarks.economics.answer import Answer
from benchmarks.economics.bills import self_hosted
from benchmarks.economics.break_even import BreakEven, break_even
from benchmarks.economics.scenario import with_values
from benchmarks.economics.sensitivity import Bar
from benchmarks.economics.terminal import dollars, plain
from benchmarks.economics.uncertainty import Draws
from benchmarks.report.exhibit import (
    FAINT,
    HOSTED,
    INK,
    OWN,
    SERIES,
    Exhibit,
    Table,
    count_axis,
    money_axis,
    share_axis,
    short,
    spread,
)

_CADENCES = (
    ("never", "0"),
    ("each quarter", "0.333333"),
    ("each month", "1"),
    ("each week", "4.333333"),
    ("each day", "30.4"),
)
_COLUMNS = 24
_MOST_BARS = 9
# Within this factor of each other the two bills are a tie for anyone who must decide.
_CLOSE = 1.25


def winner_map(answer: Answer, known: str) -> Exhibit:
    """Self-hosting against the first hosted model, by volume and by how often an adapter is retrained."""
    first = answer.comparisons[0]
    queries = _queries(answer)
    fleets = [self_hosted(with_values(answer.scenario, {"retrains_per_month": Decimal(each)})) for _, each in _CADENCES]
    ratios = [[float(own.usd(at) / first.hosted.usd(at)) for at in queries] for own in fleets]
    wins = [_wins(break_even(own, first.hosted)) for own in fleets]
    says = f"Against {first.model}: never retrained, {wins[0]}; retrained each week, {wins[3]}; each day, {wins[4]}."
    return Exhibit(
        "winner",
        "Who is cheaper, by volume and retraining",
        says=says,
        known=f"Modelled. Pale: within a quarter of each other. {known}",
        alt=f"A map of volumes and retraining cadences, coloured by who is cheaper. {says}",
        table=Table(
            ("retrained", "self-hosting", *(f"ratio at {short(at)}" for at in queries[::4])),
            tuple(
                (name, won, *(f"{row[column]:.2g}" for column in range(0, _COLUMNS, 4)))
                for (name, _), won, row in zip(_CADENCES, wins, ratios, strict=True)
            ),
        ),
        draw=lambda canvas: _draw_map(canvas, queries, ratios, first.model),
    )


def _queries(answer: Answer) -> list[Decimal]:
    marks = [float(at) for at in answer.volumes()]
    low, high = min(1e4, *marks), max(1e8, *marks)
    return [Decimal(f"{at:.3g}") for at in np.geomspace(low, high, _COLUMNS)]


def _wins(where: BreakEven) -> str:
    return "never cheaper" if where.safe is None else f"cheaper from {short(where.safe)} a month"


def _draw_map(canvas: Canvas, queries: Sequence[Decimal], ratios: Sequence[Sequence[float]], model: str) -> None:
    axes = canvas.subplots()
    step = float(queries[1] / queries[0]) ** 0.5
    for row, line in enumerate(ratios):
        for at, ratio in zip(map(float, queries), line, strict=True):
            clear = not 1 / _CLOSE <= ratio <= _CLOSE
            colour, alpha = (OWN if ratio <= 1 else HOSTED), (0.85 if clear else 0.35)
            axes.add_patch(
                Rectangle((at / step, row - 0.46), at * step - at / step, 0.92, color=colour, alpha=alpha, lw=0)
            )
    axes.set(xscale="log", xlim=(float(queries[0]) / step, float(queries[-1]) * step), ylim=(-0.5, len(ratios) - 0.5))
    axes.set_yticks(range(len(_CADENCES)), [name for name, _ in _CADENCES])
    axes.set(xlabel="queries a month", ylabel="adapter retrained")
    axes.grid(visible=False)
    count_axis(axes)
    canvas.legend(
        handles=[Patch(color=OWN, label="self-hosting cheaper"), Patch(color=HOSTED, label=f"{model} cheaper")],
        loc="outside lower center", ncols=2,
    )  # fmt: skip


def hangs_on(answer: Answer) -> Exhibit:
    """Each input moved through its own range, or a quarter either way."""
    first = answer.comparisons[0]
    bars = first.bars[:_MOST_BARS]
    strongest = bars[0]
    says = (
        f"{strongest.name.replace('_', ' ')} ({strongest.figure.kind}) moves the monthly saving most: "
        f"{_signed(strongest.saved_at_low_usd)} to {_signed(strongest.saved_at_high_usd)}."
    )
    says = f"{says[0].upper()}{says[1:]} {_moved(strongest)}"
    return Exhibit(
        "tornado",
        "What the answer hangs on",
        says=says,
        known="Modelled: one input moved at a time, through its own range or a quarter either way. The kind of each "
        "input stands beside its name.",
        alt=f"Bars: by how much each input moves the monthly saving against {first.model}. {says}",
        table=Table(
            ("input", "kind", "from", "to", "saving at low end", "at high end"),
            tuple(
                (bar.name, bar.figure.kind, plain(bar.low), plain(bar.high), _signed(bar.saved_at_low_usd),
                 _signed(bar.saved_at_high_usd))
                for bar in bars
            ),
        ),
        draw=lambda canvas: _draw_bars(canvas, bars, float(first.saved_usd), answer.volume),
        height=1.1,
    )  # fmt: skip


def _moved(bar: Bar) -> str:
    ends = (bar.safe_at_low, bar.safe_at_high)
    if ends == (None, None):
        return "Neither end of it makes self-hosting pay."
    return f"The volume from which self-hosting pays goes from {_volume(ends[0])} to {_volume(ends[1])}."


def _volume(queries: Decimal | None) -> str:
    return "never" if queries is None else short(queries)


def _signed(usd: Decimal) -> str:
    return f"{'-' if usd < 0 else ''}{dollars(abs(usd))}"


def _draw_bars(canvas: Canvas, bars: Sequence[Bar], centre: float, queries: Decimal) -> None:
    axes = canvas.subplots()
    for row, bar in enumerate(reversed(bars)):
        for end, saved, colour in (("low", bar.saved_at_low_usd, FAINT), ("high", bar.saved_at_high_usd, OWN)):
            label = f"input at its {end} end" if row == 0 else None
            axes.barh(row, float(saved) - centre, left=centre, height=0.62, color=colour, label=label)
    names = [f"{bar.name.replace('_', ' ')}\n({bar.figure.kind})" for bar in reversed(bars)]
    axes.set_yticks(range(len(bars)), names, fontsize=7)
    axes.axvline(centre, color=INK, lw=0.8)
    axes.axvline(0, color=FAINT, lw=1, ls=":")
    axes.set_xlabel(f"saved a month at {short(queries)} queries")
    axes.xaxis.set_major_locator(_few_ticks())
    money_axis(axes, "x")
    canvas.legend(loc="outside lower center", ncols=2)


def _few_ticks() -> MaxNLocator:
    return MaxNLocator(5)


def sure(answer: Answer) -> Exhibit:
    """How the break-even volume is spread over the draws."""
    rows = tuple(
        (one.model, spread(one.draws.safe_quantiles), f"{one.draws.safe_quantiles.never_share:.0%}",
         f"{one.draws.pays_share:.0%}")
        for one in answer.comparisons
    )  # fmt: skip
    first = answer.comparisons[0]
    never = first.draws.safe_quantiles.never_share
    count = len(first.draws.safe)
    says = f"Of {count} draws, {1 - never:.0%} have a volume from which self-hosting always beats {first.model}" + (
        f"; 90 % of all lie at {spread(first.draws.safe_quantiles)}." if never < 0.5 else "."
    )
    return Exhibit(
        "draws",
        "How sure the break-even volume is",
        says=says,
        known=f"Modelled: {count} draws over every uncertain input, each by itself, triangular over its range.",
        alt=f"Share of the draws whose break-even volume lies below a volume, by hosted model. {says}",
        table=Table(
            ("hosted model", "90 % interval, queries a month", "draws without any", "pays at the volume above"), rows
        ),
        draw=lambda canvas: _draw_draws(canvas, answer),
    )


def _draw_draws(canvas: Canvas, answer: Answer) -> None:
    axes = canvas.subplots()
    finite = [at for one in answer.comparisons for at in _finite(one.draws)]
    for one, colour in zip(answer.comparisons, SERIES, strict=False):
        found = _finite(one.draws)
        shares = [(index + 1) / len(one.draws.safe) for index in range(len(found))]
        end = [max(finite) * 3] if finite else [1e8]
        axes.step([*found, *end], [*shares, shares[-1] if shares else 0.0], where="post", color=colour, lw=1.6,
                  label=one.model + ("" if found else " (never)"))  # fmt: skip
    axes.set(xscale="log", ylim=(0, 1.02), xlabel="queries a month from which self-hosting always pays")
    axes.set_ylabel("share of the draws")
    share_axis(axes, "y")
    count_axis(axes)
    canvas.legend(loc="outside upper left", ncols=3)


def _finite(draws: Draws) -> list[float]:
    return sorted(at for at in draws.safe if np.isfinite(at) and at > 0)
