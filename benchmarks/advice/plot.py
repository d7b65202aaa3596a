"""Advice as a picture: what every design costs over the months, and where the money hangs.

matplotlib takes a second to import, so this module is imported only where a picture is asked for.
"""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import FuncFormatter

from benchmarks.advice.advice import Advice
from benchmarks.advice.terminal import headline
from benchmarks.economics.terminal import dollars
from benchmarks.errors import AdviceError

_COLOURS = {"RAG": "#1b4f72", "fine-tune": "#c0392b", "both": "#7d3c98", "prompt": "#5d6d7e"}
_MOST_BARS = 8
# Equal answers give equal files, so these carry no date.
_UNDATED = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}


def draw(advice: Advice, path: Path) -> None:
    """Writes the picture in the format that the file's ending names. AdviceError when it cannot be written."""
    # Two amounts in dollars are no formula.
    with mpl.rc_context({"text.parse_math": False, "svg.hashsalt": "breakeven"}):
        canvas = Canvas(figsize=(12, 5.2), layout="constrained")
        curves, bars = canvas.subplots(1, 2, width_ratios=(3, 2))
        _curves(curves, advice)
        _bars(bars, advice)
        first, _, rest = headline(advice).partition(". The nearest")
        canvas.suptitle(f"{first}.\nThe nearest{rest}" if rest else first, fontsize=9.5, x=0.01, ha="left")
        try:
            canvas.savefig(path, dpi=130, metadata=_UNDATED.get(path.suffix))
        except (OSError, ValueError) as error:
            raise AdviceError(f"cannot draw {path} ({error}); name a .png, .svg or .pdf that can be written") from error


def _curves(axes: Axes, advice: Advice) -> None:
    for design, pair in advice.costs.items():
        for option in (pair.hosted, pair.own):
            chosen = (option.design, option.own) == advice.decision.key
            spent = [float(usd) for usd in option.spent_usd()]
            place = "self-hosted" if option.own else "hosted"
            axes.plot(
                range(1, len(spent) + 1), spent, color=_COLOURS[design], ls="-" if option.own else "--",
                lw=3 if chosen else 1.2, label=f"{design}, {place}{' (the answer)' if chosen else ''}",
            )  # fmt: skip
    axes.set(xlabel="month", ylabel="USD spent, set-up included", yscale="log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"${value:,.0f}"))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8, ncols=2)
    axes.set_title("Cost over 24 months (modelled)", loc="left", fontsize=10)


def _bars(axes: Axes, advice: Advice) -> None:
    shown = advice.bars[:_MOST_BARS][::-1]
    for row, bar in enumerate(shown):
        low, high = float(bar.saved_at_low_usd), float(bar.saved_at_high_usd)
        axes.barh(row, high - low, left=low, height=0.6, color=_COLOURS["RAG"])
    axes.set_yticks(range(len(shown)), [f"{bar.name}\n{bar.figure.kind}" for bar in shown], fontsize=8)
    axes.axvline(0, color="grey", lw=1, ls=":")
    axes.grid(axis="x", alpha=0.25)
    axes.tick_params(axis="x", labelsize=8)
    mean = dollars(advice.decision.pair.mean_volume).removeprefix("$")
    axes.set_xlabel(f"USD saved a month by self-hosting, at {mean} queries")
    axes.set_title("What the money hangs on (modelled)", loc="left", fontsize=10)
