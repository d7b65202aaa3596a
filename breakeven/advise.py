"""`breakeven advise`: what to build, and where to run it."""

import sys
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks.advice.advice import Advice
from benchmarks.advice.advice import advise as advice_for
from benchmarks.advice.asking import ask_missing
from benchmarks.advice.document import as_document
from benchmarks.advice.needs import read_needs, split
from benchmarks.advice.terminal import print_advice
from benchmarks.advice.terms import read_terms
from benchmarks.economics.question import read_file
from benchmarks.errors import AdviceError
from benchmarks.prices import load_prices
from breakeven.console import console, output, print_json


def advise(
    need: Annotated[str | None, typer.Option(help="What is missing: knowledge, behaviour or both.")] = None,
    updates: Annotated[str | None, typer.Option(help="How often the knowledge changes: weekly, or N a month.")] = None,
    citations: Annotated[bool | None, typer.Option(help="Answers must name their sources.")] = None,
    per_user: Annotated[bool | None, typer.Option(help="Users see different documents.")] = None,
    examples: Annotated[str | None, typer.Option(help="Good examples of question and answer.")] = None,
    latency_ms: Annotated[str | None, typer.Option(help="Objective for the first token.")] = None,
    budget: Annotated[str | None, typer.Option(help="USD a month, set-up spread over 24 months.")] = None,
    volume: Annotated[str | None, typer.Option(help="Queries a month, such as 250k or 10M.")] = None,
    growth_per_month: Annotated[str | None, typer.Option(help="Of the volume, as a share.")] = None,
    people: Annotated[str | None, typer.Option(help="Full-time people who can look after it.")] = None,
    hosted: Annotated[str | None, typer.Option(help="Hosted model; default: gpt-6-luna.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Machine, by its id in the price file; default: a10g.")] = None,
    queries_per_minute: Annotated[str | None, typer.Option(help="Of one replica: N, or LOW:N:HIGH.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="INPUT=VALUE", help="Any input of docs/economics.md or advise.md."),
    ] = None,
    file: Annotated[Path | None, typer.Option(help="YAML of inputs; flags come over it.")] = None,
    defaults: Annotated[bool, typer.Option("--defaults", help="Ask nothing; assume what is missing.")] = False,
    draws: Annotated[int, typer.Option(min=100, max=10_000, help="Draws for the intervals.")] = 200,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    plot: Annotated[Path | None, typer.Option(help="Picture to write: .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the advice as JSON.")] = False,
) -> None:
    """Advise RAG, fine-tuning, both or a hosted API, and say what would change that.

    At a terminal, what is missing is asked for; elsewhere it is assumed, and the answer says so.
    """
    flags: dict[str, Any] = {
        "need": need,
        "updates_per_month": updates,
        "citations": citations,
        "per_user": per_user,
        "examples": examples,
        "latency_ms": latency_ms,
        "budget_usd_per_month": budget,
        "volume": volume,
        "growth_per_month": growth_per_month,
        "people": people,
        "hosted": hosted,
        "gpu": gpu,
        "queries_per_minute": queries_per_minute,
    }
    given = {name: value for name, value in flags.items() if value is not None} | _pairs(set_ or [])
    found = _advice(file, given, draws, seed, ask=sys.stdin.isatty() and not defaults)
    _show(found, as_json=as_json, plot=plot)


def _advice(file: Path | None, flags: Mapping[str, Any], draws: int, seed: int, *, ask: bool) -> Advice:
    """From a file, flags over it, and answers to what both lack."""
    sources = [(str(file), read_file(file))] if file else []
    parts = [(source, *split(given)) for source, given in (*sources, ("the command line", flags))]
    terms = read_terms(load_prices(), date.today(), *((source, rest) for source, _, rest in parts))
    known = [(source, mine) for source, mine, _ in parts]
    # Before the first question, so that nobody answers ten of them for a mistake in a flag.
    found = read_needs(*known)
    if ask:
        answers = ask_missing({name: value for _, mine in known for name, value in mine.items()}, _ask, _tell)
        found = read_needs(*known, ("an answer", answers))
    return advice_for(terms, *found, draws, seed)


def _show(found: Advice, *, as_json: bool, plot: Path | None) -> None:
    if as_json:
        print_json(as_document(found))
    else:
        print_advice(found, output)
    if plot is not None:
        # Heavy: a second of imports that no other answer needs.
        from benchmarks.advice.plot import draw

        draw(found, plot)
        _tell(f"drawn: {plot}")


def _ask(question: str, default: str) -> str:
    answer: str = typer.prompt(question, default=default, err=True)
    return answer


def _tell(text: str) -> None:
    console.print(text)


def _pairs(given: list[str]) -> dict[str, str]:
    pairs = [item.partition("=") for item in given]
    if wrong := [name for name, sign, _ in pairs if not sign]:
        raise AdviceError(f"--set {wrong[0]}: write it as INPUT=VALUE")
    return {name: value for name, _, value in pairs}
