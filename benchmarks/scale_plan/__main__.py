"""Simulates and writes the page: `python -m benchmarks.scale_plan`. Less than a minute on two cores.

The simulation's answers are kept in benchmarks/results/scale/simulation.json; `--page` writes the page from them again.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.errors import BenchmarkError, ResultsError
from benchmarks.prices import load_prices
from benchmarks.result_file import keep
from benchmarks.scale_plan.autoscaling import rules
from benchmarks.scale_plan.installed import installed
from benchmarks.scale_plan.measured import RESULTS, ROOT, measured
from benchmarks.scale_plan.page import COMMAND, PICTURE, Material, page
from benchmarks.scale_plan.picture import draw
from benchmarks.scale_plan.scenarios import fingerprint, simulate
from benchmarks.scale_plan.sizes import ceilings

PAGE = ROOT / "docs" / "scale-plan.md"
ANSWERS = RESULTS / "scale" / "simulation.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Page, picture and answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PAGE, help="the page; the picture is written beside it")
    parser.add_argument("--page", action="store_true", help="from the answers that there are, without simulating")
    given = parser.parse_args(arguments)
    try:
        material = material_of(None if given.page else _simulated(Console(stderr=True)))
        for name, text in written(material).items():
            given.out.with_name(given.out.name if name == PAGE.name else name).write_text(text, encoding="utf-8")
    except (BenchmarkError, OSError) as error:
        sys.exit(f"error: {error}")


def material_of(runs: Mapping[str, Any] | None = None) -> Material:
    """What the page is made of; without `runs` the answers that are kept. ResultsError if they are of other figures."""
    book = load_prices()
    found = measured(book)
    if runs is None:
        try:
            kept = json.loads(ANSWERS.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ResultsError(f"there are no answers of the simulation; run {COMMAND}") from error
        if found.engine is None or kept["of"] != fingerprint(found.engine, float(found.ready_s.value), rules()):
            raise ResultsError(f"the simulation was made of other figures than there are now; run {COMMAND}")
        runs = kept["runs"]
    return Material(found, installed(), book, runs)


def written(material: Material) -> Mapping[str, str]:
    """The page and its picture, by file name."""
    engine = material.found.engine
    if engine is None:
        return {PAGE.name: page(material)}
    shown = ceilings(engine, material.found, material.installed)
    return {PAGE.name: page(material), PICTURE: draw(material.runs, shown)}


def _simulated(console: Console) -> Mapping[str, Any]:
    found, scaling = measured(load_prices()), rules()
    if found.engine is None:
        raise ResultsError("no replica has been measured; run `breakeven experiment run` with a plan first")
    ready_s = float(found.ready_s.value)
    runs = simulate(found.engine, ready_s, scaling, lambda what: console.print(f"simulating: {what}", highlight=False))
    keep({"command": COMMAND, "of": fingerprint(found.engine, ready_s, scaling), "runs": runs}, ANSWERS)
    return runs


if __name__ == "__main__":
    main()
