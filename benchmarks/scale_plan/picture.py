"""The scale plan as a picture: where each part gives, a burst under the autoscaler, and the routers.

matplotlib takes a second to import, so this module is imported only where the picture is drawn.
"""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, NullFormatter

from benchmarks.scale_plan.scenarios import BURST, WINDOW_S
from benchmarks.scale_plan.sizes import VOLUMES, Ceiling
from benchmarks.scale_plan.tables import volume

_COLOURS = ("#1b4f72", "#c0392b", "#d68910", "#148f77", "#7d3c98")
_GREY = "#85929e"
Rows = Sequence[Mapping[str, Any]]


def draw(runs: Mapping[str, Rows], ceilings: Sequence[Ceiling]) -> str:
    """An SVG, the same bytes for the same figures."""
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": "breakeven", "svg.fonttype": "none"}):
        canvas = Canvas(figsize=(12, 7.4), layout="constrained")
        upper, lower = canvas.subplots(2, 2)
        _ceilings(upper[0], ceilings)
        _routers(upper[1], runs["routers"])
        _fleet(lower[0], runs["burst"])
        _latency(lower[1], runs["burst"])
        written = io.StringIO()
        canvas.savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()) + "\n"


def _ceilings(axes: Axes, ceilings: Sequence[Ceiling]) -> None:
    names = [each.part for each in ceilings][::-1]
    axes.barh(names, [each.volume for each in ceilings][::-1], color=_COLOURS[0], height=0.6)
    for each in VOLUMES:
        axes.axvline(each, color=_COLOURS[1], lw=1, ls=":")
        axes.annotate(
            f" {volume(each)}", (each, 1.0), xycoords=("data", "axes fraction"), color=_COLOURS[1], fontsize=8, va="top"
        )
    axes.set(xscale="log", xlabel="queries a month", xlim=(VOLUMES[0] / 3, None))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: volume(value)))
    axes.set_title("What breaks first, as installed (modelled)", loc="left", fontsize=10)


def _routers(axes: Axes, rows: Rows) -> None:
    kinds = list(dict.fromkeys(row["prompts"] for row in rows))
    names = list(dict.fromkeys(row["router"] for row in rows))
    height = 0.8 / len(kinds)
    for number, (kind, colour) in enumerate(zip(kinds, (_GREY, _COLOURS[0]), strict=False)):
        values = [row["ttft_p95_s"] for row in rows if row["prompts"] == kind]
        places = [at + number * height for at in range(len(names))]
        axes.barh(places, values, height=height, color=colour, label=kind)
    axes.set_yticks([at + height / 2 for at in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel("p95 to the first token, s")
    axes.legend(frameon=False, fontsize=8)
    axes.set_title(f"Routers at the peak of {volume(VOLUMES[1])} a month (modelled)", loc="left", fontsize=10)


def _fleet(axes: Axes, rows: Rows) -> None:
    for row, colour in zip(rows, _COLOURS, strict=False):
        times = [at / 60 for at, _ in row["fleet"]] + [row["ends_s"] / 60]
        counts = [count for _, count in row["fleet"]]
        axes.step(times, [*counts, counts[-1]], where="post", color=colour, lw=1.5, label=row["name"])
    axes.set(
        xlabel="minutes",
        ylabel="replicas billed",
        ylim=(0, 1.4 * max(count for row in rows for _, count in row["fleet"])),
    )
    axes.legend(frameon=False, fontsize=7, loc="upper right")
    axes.set_title(f"{BURST:g} times the mean from minute 30 to 90 (modelled)", loc="left", fontsize=10)


def _latency(axes: Axes, rows: Rows) -> None:
    for row, colour in zip(rows, _COLOURS, strict=False):
        axes.plot([at / 60 for at, _ in row["windows"]], [p95 for _, p95 in row["windows"]], color=colour, lw=1.5)
    axes.set(xlabel="minutes", ylabel="p95 to the first token, s", yscale="log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(alpha=0.25)
    axes.set_title(f"The same, by {WINDOW_S / 60:g} minutes", loc="left", fontsize=10)
