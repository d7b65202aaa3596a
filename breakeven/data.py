"""`breakeven data`: check a training set before it costs anything, and make one from tables or pairs."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from adapters.checking import check, context_length
from adapters.encoding import Encoder
from adapters.errors import MalformedRecipe
from adapters.findings import Report
from adapters.importing import import_csv, import_pairs
from adapters.manifest import base_fingerprint
from adapters.plan import make_plan
from adapters.recipe import Recipe, load_recipe
from adapters.speed import Machine, estimate, recall
from breakeven.console import Config, console, output, print_json
from breakeven.train import base_of, machine_of
from serving.settings import load_settings, share_cores

app = typer.Typer(help="Check a training set, or make one.", no_args_is_help=True)


@app.command("check")
def data_check(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Chat JSONL, as OpenAI's fine-tuning takes.")
    ],
    validation: Annotated[Path | None, typer.Option(help="Validation set: is any of it in the training set?")] = None,
    recipe: Annotated[Path | None, typer.Option(help="Recipe to train with: its max_length and epochs count.")] = None,
    base: Annotated[Path | None, typer.Option(help="Base model checkpoint; default: the embedded one.")] = None,
    probe: Annotated[bool, typer.Option("--probe", help="Train a few steps of --recipe to measure the speed.")] = False,
    show: Annotated[int, typer.Option(min=1, help="Findings of a kind to show at most.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as one JSON object.")] = False,
    config: Config = None,
) -> None:
    """Check chat data line by line, and say what training on it will take. Exit status 1 if there are errors."""
    settings = load_settings(config)
    base_dir, machine = base_of(settings, base), machine_of(settings)
    with_recipe = load_recipe(recipe / "recipe.toml" if recipe.is_dir() else recipe) if recipe else None
    if probe:
        _probe(recipe, base_dir, machine)
    context = context_length(base_dir)
    longest = min(with_recipe.max_length, context) if with_recipe else context
    report = check(file, validation, Encoder(base_dir), longest, with_recipe.epochs if with_recipe else 1)
    report = _estimated(report, machine, base_dir, with_recipe)
    if as_json:
        print_json(report.as_dict())
    else:
        for line in report.lines(show):
            output.print(line)
    if report.errors:
        raise typer.Exit(1)


def _probe(recipe: Path | None, base_dir: Path, machine: Machine) -> None:
    if recipe is None:
        raise MalformedRecipe("--probe trains a few steps: name the recipe with --recipe")
    share_cores()
    # Heavy: torch and trl.
    from adapters.training import measure_speed

    measure_speed(make_plan(recipe, base_dir), machine, console)


def _estimated(report: Report, machine: Machine, base_dir: Path, recipe: Recipe | None) -> Report:
    speed = recall(machine, base_fingerprint(base_dir).sha256)
    if speed is None or report.tokens is None:
        how = "Measure with --recipe FOLDER --probe (a few steps), or train once on this machine."
        return replace(report, estimate_from=how)
    price = f"; {machine.price.per_hour} USD an hour: {machine.price.source}" if machine.price else ""
    tokens = round(report.tokens.total * (recipe.epochs if recipe else 1))
    return replace(report, estimate=estimate(tokens, speed, machine.price), estimate_from=f"{speed}{price}")


@app.command("import")
def data_import(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CSV, or JSONL of prompt and completion.")],
    out: Annotated[Path, typer.Option(help="Chat JSONL to write.")],
    text: Annotated[str, typer.Option(help="CSV column of what the user says.")] = "text",
    label: Annotated[str, typer.Option(help="CSV column of what the assistant answers.")] = "label",
    system: Annotated[str | None, typer.Option(help="System prompt to begin each conversation with.")] = None,
) -> None:
    """Turn a CSV file or prompt/completion pairs into chat data; the ending .csv decides which."""
    if file.suffix.lower() == ".csv":
        imported = import_csv(file, out, text, label, system)
    else:
        imported = import_pairs(file, out, system)
    output.print(f"{imported.path}@{imported.sha256[:12]}: {imported.examples} examples")
    output.print(f"next: breakeven data check {imported.path}")
