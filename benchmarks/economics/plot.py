"""A what-if answer as a picture: cost against volume with the staircase, and what the answer hangs on.

matplotlib takes a second to import, so this module is imported only where a picture is asked for.
"""

from decimal import Decimal
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from benchmarks.economics.answer import Answer
from benchmarks.economics.terminal import headline, volume
from benchmarks.errors import ModelError

_OWN = "#1b4f72"
_HOSTED = ("#c0392b", "#d68910", "#7d3c98", "#148f77", "#5d6d7e")
_PAYS = "#d5f0dc"
_POINTS = 1200
_MOST_BARS = 8
# Equal answers give equal files, so these carry no date.
_UNDATED = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def draw(answer: Answer, path: Path) -> None:
    """Writes the picture in the format that the file's ending names. ModelError when it cannot be written."""
    # Two amounts in dollars are no formula.
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": "breakeven"}):
        canvas = Canvas(figsize=(12, 5.2), layout="constrained")
        curves, bars = canvas.subplots(1, 2, width_ratios=(3, 2))
        _curves(curves, answer)
        _bars(bars, answer)
        canvas.suptitle(_wrapped(headline(answer, answer.comparisons[0])), fontsize=11, x=0.01, ha="left")
        try:
            canvas.savefig(path, dpi=130, metadata=_UNDATED.get(path.suffix))
        except (OSError, ValueError) as error:
            raise ModelError(f"cannot draw {path} ({error}); name a .png, .svg or .pdf that can be written") from error


def _curves(axes: Axes, answer: Answer) -> None:
    marks = [float(mark) for mark in answer.volumes()]
    volumes = np.geomspace(min(marks) / 2, max(marks) * 2, _POINTS)
    exact = [Decimal(point) for point in volumes]
    first = answer.comparisons[0]
    for interval in first.where.intervals:
        high = float(interval.high) if interval.high is not None else volumes[-1]
        axes.axvspan(float(interval.low), high, color=_PAYS, zorder=0, lw=0)
    axes.plot(volumes, [float(answer.own.usd(at)) for at in exact], color=_OWN, lw=2, label="self-hosted")
    for one, colour in zip(answer.comparisons, _HOSTED, strict=False):
        axes.plot(volumes, [float(one.hosted.usd(at)) for at in exact], color=colour, lw=1.5, label=one.model)
    axes.axvline(float(answer.volume), color="grey", lw=1, ls=":")
    axes.annotate(f" {volume(answer.volume)}", (float(answer.volume), 0.01), xycoords=("data", "axes fraction"),
                  color="grey", fontsize=8, va="bottom")  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="queries a month", ylabel="USD a month")
    axes.set_xlim(volumes[0], volumes[-1])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${_short(value)}"))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper left")
    shaded = "" if first.where.never else f" (shaded: cheaper than {first.model})"
    axes.set_title(f"Cost by volume{shaded}", loc="left", fontsize=10)


def _bars(axes: Axes, answer: Answer) -> None:
    first = answer.comparisons[0]
    shown = first.bars[:_MOST_BARS][::-1]
    centre = float(first.saved_usd)
    for row, bar in enumerate(shown):
        for end, saved, colour in (("low", bar.saved_at_low_usd, "#85929e"), ("high", bar.saved_at_high_usd, _OWN)):
            label = f"input at its {end} end" if row == 0 else None
            axes.barh(row, float(saved) - centre, left=centre, height=0.6, color=colour, label=label)
    axes.set_yticks(range(len(shown)), [f"{bar.name}\n{bar.figure.kind}" for bar in shown], fontsize=8)
    axes.axvline(centre, color="black", lw=0.8)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{'-' if value < 0 else ''}${_short(abs(value))}"))
    axes.set_xlabel(f"saved a month at {volume(answer.volume)} queries")
    axes.grid(axis="x", alpha=0.25)
    axes.axvline(0, color="grey", lw=1, ls=":")
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    axes.set_title(f"What it hangs on, against {first.model}", loc="left", fontsize=10)


def _short(value: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def _wrapped(text: str, width: int = 150) -> str:
    lines, line = [], ""
    for word in text.split():
        if len(line) + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return "\n".join([*lines, line])
