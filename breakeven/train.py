"""`breakeven train`: LoRA weights, from a recipe to the registry."""

import asyncio
import contextlib
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from adapters.errors import OutputBusy, TrainingCancelled, TrainingPaused
from adapters.plan import make_plan
from adapters.runs import EXIT_CANCELLED, EXIT_PAUSED, Schedule
from adapters.speed import Machine, Price
from benchmarks.errors import PriceError
from benchmarks.prices import load_prices
from benchmarks.prices.validity import notes
from breakeven.console import Config, console, output
from serving.engine.checkpoint import prepare_weights
from serving.engine.device import detect
from serving.sections import Settings
from serving.settings import load_settings, share_cores
from serving.versions import add, next_step


def train(
    recipe: Annotated[Path, typer.Argument(exists=True, help="A folder with recipe.toml, or the file.")],
    out: Annotated[Path | None, typer.Option(help="Adapter folder to create; default: under BREAKEVEN_HOME.")] = None,
    base: Annotated[Path | None, typer.Option(help="Base model checkpoint; default: the embedded one.")] = None,
    checkpoint_seconds: Annotated[float, typer.Option(min=0, help="Write a checkpoint so often.")] = 120,
    checkpoint_steps: Annotated[int | None, typer.Option(min=1, help="Write one after so many steps, too.")] = None,
    install: Annotated[bool, typer.Option(help="Install the adapter into the registry.")] = True,
    config: Config = None,
) -> None:
    """Train a LoRA adapter from a recipe and install it into the registry.

    Ctrl-C and SIGTERM pause: the same command goes on, also after a crash or kill -9. OUT.run/progress.jsonl tells
    where it is. Exit status: 0 done, 75 paused or busy, 130 cancelled, 1 anything else.
    """
    share_cores()
    # Heavy: torch and trl are loaded for this command only.
    from adapters.loading import keep_within
    from adapters.training import train as train_adapter

    settings = load_settings(config)
    keep_within(settings.tuning.gpu_memory_share)
    plan = make_plan(recipe, base_of(settings, base))
    # Named by what it is made from, so that the same command finds what it has begun.
    folder = out or settings.home / "trained" / f"{plan.recipe.name}-{plan.fingerprint}"
    schedule = Schedule(checkpoint_seconds, checkpoint_steps)
    # The command as anyone can repeat it: without this machine's paths.
    command = f"breakeven train {recipe.name if recipe.is_absolute() else recipe}"
    try:
        manifest = train_adapter(
            plan, folder, machine_of(settings), command=command, console=console, schedule=schedule
        )
    except (TrainingPaused, TrainingCancelled, OutputBusy) as stopped:
        console.print(str(stopped))
        raise typer.Exit(EXIT_CANCELLED if isinstance(stopped, TrainingCancelled) else EXIT_PAUSED) from None
    for score in manifest.scores:
        output.print(f"{score.name}: {score.value:.2f} of {score.n} (95 %: {score.low:.2f} to {score.high:.2f})")
    name = f"{manifest.name}@{manifest.version}"
    output.print(f"{name} is in {folder}{' and installed' if install else ''}")
    if install:
        # It may have been trained for another base model than is served at the moment.
        version = add(settings, folder, any_base=True)
        if (step := next_step(settings, version)) is not None:
            output.print(step)


def base_of(settings: Settings, stated: Path | None) -> Path:
    """The base model to train on: as stated, or the embedded one."""
    return stated or asyncio.run(prepare_weights(settings.home, console.print))


def machine_of(settings: Settings) -> Machine:
    """This machine as a place to train, with its price if anybody stated one."""
    device, cost, price = detect(), settings.cost, None
    if cost.usd_per_hour is not None:
        price = Price(cost.usd_per_hour, cost.source or "cost.usd_per_hour in the configuration")
    else:
        # A training goes on without a price; what it cost is then left open.
        with contextlib.suppress(PriceError):
            book = load_prices()
            found = book.cpu if device.kind == "cpu" else book.gpu_for(device.name)
            price = Price(found.usd_per_hour, f"{found.source}, seen on {found.as_of} ({found.basis})")
            for note in notes(found, date.today()):
                console.print(f"note: {note}")
    return Machine(settings.home / "training", device.name, price)
