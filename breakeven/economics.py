"""`breakeven whatif`: the economic model at the prompt."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.economics.answer import Answer, answer
from benchmarks.economics.document import as_document
from benchmarks.economics.question import ask, read_file
from benchmarks.economics.terminal import print_answer
from benchmarks.errors import ModelError
from benchmarks.prices import load_prices
from breakeven.console import console, output, print_json


def whatif(
    volume: Annotated[str | None, typer.Option(help="Queries a month, such as 250k or 10M.")] = None,
    hosted: Annotated[list[str] | None, typer.Option(help="Hosted model to compare with; may be repeated.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Machine, by its id in the price file; default: a10g.")] = None,
    queries_per_minute: Annotated[
        str | None, typer.Option(help="What one replica answers within its objectives: N, or LOW:N:HIGH.")
    ] = None,
    prompt_tokens: Annotated[str | None, typer.Option(help="Per query, with retrieved passages.")] = None,
    output_tokens: Annotated[str | None, typer.Option(help="Per query.")] = None,
    hours_per_day: Annotated[str | None, typer.Option(help="Hours of service; 24 is always on.")] = None,
    peak_to_mean: Annotated[str | None, typer.Option(help="Peak rate over mean rate.")] = None,
    min_replicas: Annotated[int | None, typer.Option(help="Never fewer; 2 for redundancy.")] = None,
    billing: Annotated[str | None, typer.Option(help="second, hour or month.")] = None,
    fte: Annotated[str | None, typer.Option(help="Full-time people who run it.")] = None,
    retrains_per_month: Annotated[str | None, typer.Option(help="Adapter trainings.")] = None,
    growth_per_month: Annotated[str | None, typer.Option(help="Of the volume, as a share.")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="INPUT=VALUE", help="Any input of docs/economics.md.")
    ] = None,
    file: Annotated[Path | None, typer.Option(help="YAML of inputs; flags come over it.")] = None,
    draws: Annotated[int, typer.Option(min=100, max=100_000, help="Draws for the intervals.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer as JSON.")] = False,
) -> None:
    """Say whether self-hosting pays, at what volume, and how sure.

    Every number may be a range, LOW:VALUE:HIGH. What is not given is assumed, and the answer says so.
    """
    flags: dict[str, Any] = {
        "volume": volume,
        "hosted": hosted,
        "gpu": gpu,
        "queries_per_minute": queries_per_minute,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "hours_per_day": hours_per_day,
        "peak_to_mean": peak_to_mean,
        "min_replicas": min_replicas,
        "billing": billing,
        "fte": fte,
        "retrains_per_month": retrains_per_month,
        "growth_per_month": growth_per_month,
    }
    given = {key: value for key, value in flags.items() if value is not None} | _pairs(set_ or [])
    sources = [(str(file), read_file(file))] if file else []
    found = answer(ask(load_prices(), date.today(), *sources, ("the command line", given)), draws, seed)
    _show(found, as_json=as_json, plot=plot)


def _show(found: Answer, *, as_json: bool, plot: Path | None) -> None:
    if as_json:
        print_json(as_document(found))
    else:
        print_answer(found, output)
    if plot is not None:
        # Heavy: a second of imports that no other answer needs.
        from benchmarks.economics.plot import draw

        draw(found, plot)
        console.print(f"drawn: {plot}")


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise ModelError(f"--set {wrong[0]}: write it as INPUT=VALUE")
    return {name: value for name, _, value in pairs}
