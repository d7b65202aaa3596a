"""`breakeven train`: LoRA weights, from a recipe to the registry."""

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer

from adapters.aliases import PROD
from adapters.registry import Registry
from breakeven.console import Config, console, output
from serving.gateway import prepare_weights
from serving.settings import load_settings, share_cores
from serving.versions import add


def train(
    recipe: Annotated[Path, typer.Argument(exists=True, help="A folder with recipe.toml, or the file.")],
    out: Annotated[Path | None, typer.Option(help="Adapter folder to create; default: under BREAKEVEN_HOME.")] = None,
    base: Annotated[Path | None, typer.Option(help="Base model checkpoint; default: the embedded one.")] = None,
    config: Config = None,
) -> None:
    """Train a LoRA adapter from a recipe and install it into the registry."""
    share_cores()
    # Heavy: torch and trl are loaded for this command only.
    from adapters.training import train as train_adapter

    settings = load_settings(config)
    if base is None:
        base = asyncio.run(prepare_weights(settings.home, console.print))
    folder = out or settings.home / "trained" / time.strftime("%Y%m%d-%H%M%S")
    # The command as anyone can repeat it: without this machine's paths.
    manifest = train_adapter(recipe, base, folder, command=f"breakeven train {recipe}", console=console)
    # It may have been trained for another base model than is served at the moment.
    version = add(settings, folder, any_base=True)
    for score in manifest.scores:
        output.print(f"{score.name}: {score.value:.2f} of {score.n} (95 %: {score.low:.2f} to {score.high:.2f})")
    output.print(f"{version.engine_name} is in {folder} and installed", markup=False)
    if Registry(settings.home / "adapters").aliases(version.name).get(PROD) != version.version:
        output.print(f"To have it answer: breakeven adapters promote {version.engine_name}", markup=False)
