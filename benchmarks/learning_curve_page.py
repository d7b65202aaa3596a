"""Writes docs/learning-curve.md from benchmarks/results/adapters: `python -m benchmarks.learning_curve_page`.

A test compares the two, so that nobody types a figure.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.claims.judging import Verdict, verdicts
from benchmarks.claims.reading import read_book
from benchmarks.claims.wording import OUTCOME_NAMES
from benchmarks.learning_curve import SIZES

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "learning-curve.md"
RESULTS = ROOT / "benchmarks" / "results" / "adapters"
COMMAND = "python -m benchmarks.learning_curve_page"
CLAIMS = ("D32", "A03", "B10", "B16")
_BAR = 50
_MISSING = "not yet measured"


@dataclass(frozen=True, slots=True)
class Curve:
    """A set of intents, and the sizes that we want to know about. Its results are in <name>.json."""

    name: str
    title: str
    sizes: Sequence[int]


CURVES = (
    Curve("banking77", "BANKING77: 77 intents of a bank's customers", SIZES),
    Curve("bitext", "Bitext's support sample: 27 intents of a shop's customers", (1000,)),
)

_INTRODUCTION = f"""# How many examples does an adapter need?

Made from `benchmarks/results/adapters` by `{COMMAND}`; a test compares the two.

For telling intents apart, with SmolLM2-135M: each point is an adapter trained on that many examples, as evenly over the
labels as they allow, and asked the set's whole test split over the endpoint, constrained to the labels. Small subsets
are repeated until the model has seen 3,000 examples. Intervals are 95 %. Repeat it, or go on with it, with
`python -m benchmarks.learning_curve FOLDER --out FILE`; the recipe is `benchmarks/intents.toml`.

Training times are those of the machine named, which may have done other work beside it.
"""


def page(results: Path, found: Mapping[str, Verdict]) -> str:
    """The whole page as Markdown; `results` is the folder of the results files."""
    parts = [_INTRODUCTION, *(_section(curve, _points(results / f"{curve.name}.json")) for curve in CURVES)]
    rows = [[id, found[id].claim.says, f"**{OUTCOME_NAMES[found[id].outcome]}**"] for id in CLAIMS]
    words = (
        "Five documents say how many examples one should have. Their verdicts, which this curve decides for intents\n"
        "only (a house style may need more or fewer), are in [claims.md](claims.md):\n"
    )
    return "\n".join([*parts, "## What the documents say\n", words, _table(["", "Claim", "Verdict"], rows)])


def _points(path: Path) -> Mapping[int, Mapping[str, Any]]:
    if not path.is_file():
        return {}
    return {int(point["examples"]): point for point in json.loads(path.read_text(encoding="utf-8"))["points"]}


def _section(curve: Curve, points: Mapping[int, Mapping[str, Any]]) -> str:
    sizes = sorted({*curve.sizes, *points})
    best = points.get(max(curve.sizes))
    rows = [_row(curve.name, size, points.get(size), best) for size in sizes]
    heading = ["examples", "epochs", "accuracy", "of the largest", "macro F1", "questions", "training"]
    parts = [f"## {curve.title}\n", _table(heading, rows)]
    if len(points) > 1:
        parts.append("```text\n" + "\n".join(_bars(curve.name, points)) + "\n```\n")
    if points:
        parts.append("\n".join(sorted({_origin(point) for point in points.values()})) + "\n")
    return "\n".join(parts)


def _row(name: str, size: int, point: Mapping[str, Any] | None, best: Mapping[str, Any] | None) -> list[str]:
    if point is None:
        return [f"{size:,}", "", _MISSING, "", "", "", ""]
    accuracy = _figure(point, f"{name}.accuracy")
    share = "" if best is None else f"{accuracy['value'] / _figure(best, f'{name}.accuracy')['value']:.0%}"
    seconds = point["train_seconds"]
    known = point.get("questions_in_training")
    return [
        f"{size:,}",
        f"{point['epochs']:g}",
        _interval(accuracy),
        share,
        _interval(_figure(point, f"{name}.macro_f1")),
        f"{point['questions']:,}" + (f" ({known} of them in training)" if known else ""),
        "" if seconds is None else f"{seconds / 60:.0f} min",
    ]


def _bars(name: str, points: Mapping[int, Mapping[str, Any]]) -> Iterator[str]:
    for size, point in sorted(points.items()):
        value = _figure(point, f"{name}.accuracy")["value"]
        yield f"{size:>7,}  {'#' * round(value * _BAR):<{_BAR}}  {value:.3f}"


def _origin(point: Mapping[str, Any]) -> str:
    origin = point["origin"]
    machine = f"{origin['cores']} cores of {origin['cpu_model']}"
    return f"- `{origin['command']}` at {origin['commit']}, {origin['started_at'][:10]}, {machine}"


def _figure(point: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(figure for figure in point["figures"] if figure["name"] == name)
    return found


def _interval(figure: Mapping[str, Any]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f})"


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(RESULTS, verdicts(read_book())), encoding="utf-8")
