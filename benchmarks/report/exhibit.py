"""A plot with everything that must go with it: what it says, how its numbers are known, the table behind it.

The plot is drawn once in stand-in colours. In the page they become CSS variables, so that it follows light and dark; in
a PNG they become the light ones.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from benchmarks.economics.uncertainty import Quantiles
from benchmarks.errors import ResultsError

# Stand-ins: no plot may use any other colour. (light; the dark ones are in page.html)
INK, FAINT, GRID = "#111213", "#616263", "#d1d2d3"
OWN, HOSTED, SECOND, THIRD, GOOD, BAD = "#0b5c8a", "#b3401f", "#8a6d00", "#6b3fa0", "#1f7a4d", "#a8323e"
SHADE = "#e4f2ea"
_VARIABLES = {
    INK: "ink", FAINT: "faint", GRID: "grid", OWN: "own", HOSTED: "hosted", SECOND: "second", THIRD: "third",
    GOOD: "good", BAD: "bad", SHADE: "shade",
}  # fmt: skip
SERIES = (HOSTED, SECOND, THIRD)

_SIZE = (4.7, 3.6)
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "svg.fonttype": "none",
    # Two amounts in dollars are no formula.
    "text.parse_math": False,
}


@dataclass(frozen=True, slots=True)
class Table:
    """The numbers behind a plot, as text."""

    heading: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One plot. `known` says how its numbers are known and from where; `alt` tells it to who cannot see it.

    Without `draw` it could not be measured yet: `says` is why, `command` would measure it.
    """

    id: str
    title: str
    says: str
    known: str = ""
    alt: str = ""
    table: Table | None = None
    draw: Callable[[Canvas], None] | None = None
    command: str = ""
    height: float = 1.0

    @property
    def missing(self) -> bool:
        """Not yet measured."""
        return self.draw is None


def not_measured(name: str, title: str, why: str, command: str) -> Exhibit:
    """What stands in the place of a plot whose data nobody has."""
    return Exhibit(name, title, f"Not yet measured: {why}", command=command)


def svg(exhibit: Exhibit, prefix: str) -> str:
    """The plot as an element to stand in a page. Its ids begin with `prefix`, for a page holds many."""
    held = StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": f"{prefix}-{exhibit.id}"}):
        _drawn(exhibit).savefig(held, format="svg", metadata={"Date": None, "Creator": None})
    text = held.getvalue()
    text = text[text.index("<svg") :].replace(
        "<svg ", f'<svg role="img" aria-labelledby="{prefix}-{exhibit.id}-alt" ', 1
    )
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # the same in every plot, and nothing refers to them
    for colour, name in _VARIABLES.items():
        text = text.replace(colour, f"var(--{name})")
    # The page's own font: the stand-in is wider, so nothing grows out of its place.
    return text.replace("'DejaVu Sans'", "var(--plot-font)").replace("DejaVu Sans", "var(--plot-font)")


def png(exhibit: Exhibit, path: Path) -> None:
    """The plot as a picture on white. ResultsError when it cannot be written."""
    held = BytesIO()
    with mpl.rc_context({**_STYLE, "savefig.facecolor": "white"}):
        _drawn(exhibit).savefig(held, format="png", dpi=160, metadata={"Software": None})
    try:
        path.write_bytes(held.getvalue())
    except OSError as error:
        raise ResultsError(f"cannot write {path} ({error.strerror}); name another folder with --out") from error


def _drawn(exhibit: Exhibit) -> Canvas:
    if exhibit.draw is None:
        raise ValueError(f"{exhibit.id} has nothing to draw")
    width, height = _SIZE
    canvas = Canvas(figsize=(width, height * exhibit.height), layout="constrained")
    exhibit.draw(canvas)
    return canvas


def money_axis(axes: Axes, which: str = "y") -> None:
    """Ticks as amounts: $1.2k."""
    _ticks(axes, which, dollars_short)


def count_axis(axes: Axes, which: str = "x") -> None:
    """Ticks as counts: 1.2M."""
    _ticks(axes, which, short)


def _ticks(axes: Axes, which: str, said: Callable[[float], str]) -> None:
    axis = axes.yaxis if which == "y" else axes.xaxis
    if axis.get_scale() == "log":
        low, high = sorted(axes.get_ylim() if which == "y" else axes.get_xlim())
        # Over less than two decades the powers of ten alone would be one tick or none.
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,), numticks=9))
        axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: said(value)))


def share_axis(axes: Axes, which: str) -> None:
    """Ticks as percentages."""
    axis = axes.yaxis if which == "y" else axes.xaxis
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))


def dollars_short(value: float) -> str:
    """$1.2k; -$30."""
    return f"{'-' if value < 0 else ''}${short(abs(value))}"


def short(value: float | Decimal) -> str:
    """Three digits and a letter: 417k, 23.3M, 0.00005."""
    number = float(value)
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{Decimal(f'{number:.3g}'):f}"


def seconds(value: float) -> str:
    """0.42 s; "never" when most requests failed."""
    return f"{value:.3g} s" if value < 1e6 else "never"


def spread(found: Quantiles) -> str:
    """The interval of a volume; open where too many draws never cross."""
    if found.p5 is None:
        return "never"
    return f"{short(found.p5)} to {short(found.p95) if found.p95 is not None else 'no upper bound'}"
