"""`breakeven report`: results files in, one page that says whether it pays out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.claims.judging import verdicts
from benchmarks.claims.reading import read_book
from benchmarks.economics.question import read_file
from benchmarks.errors import ModelError
from benchmarks.experiments.results import read_experiment
from benchmarks.prices import load_prices
from benchmarks.report.cases import cases
from breakeven.console import console, output


def report(
    results: Annotated[list[Path], typer.Argument(help="Results files of experiments or of `breakeven bench --out`.")],
    out: Annotated[Path, typer.Option(help="Folder for index.html, report.md and the plots.")] = Path("report"),
    volume: Annotated[str | None, typer.Option(help="Queries a month to look at, such as 250k or 10M.")] = None,
    hosted: Annotated[list[str] | None, typer.Option(help="Hosted model to compare with; may be repeated.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="INPUT=VALUE", help="Any input of docs/economics.md.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="YAML of such inputs; flags come over it.")] = None,
) -> None:
    """Write the report: one page with ten plots, and the same as Markdown.

    It answers whether self-hosting pays, at what volume, and how sure that is; every number says whether it was
    measured, modelled, assumed or quoted.
    """
    assumptions: dict[str, Any] = dict(read_file(file)) if file else {}
    assumptions |= _pairs(set_ or [])
    if volume is not None:
        assumptions["volume"] = volume
    if hosted:
        assumptions["hosted"] = hosted
    from benchmarks.report.content import compose
    from benchmarks.report.page import write

    book, prices = read_book(), load_prices()
    found = cases([read_experiment(path) for path in results], prices, assumptions)
    console.print("drawing the plots")
    page, text, *plots = write(compose(found, book, verdicts(book), prices), out)
    output.print(f"{page}, {text} and {len(plots)} plots")


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise ModelError(f"--set {wrong[0]}: write it as INPUT=VALUE")
    return {name: value for name, _, value in pairs}
