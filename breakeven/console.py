"""Where commands write: results to stdout, so that they can be piped, everything said on the way to stderr."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(stderr=True, highlight=False)
output = Console(highlight=False, soft_wrap=True)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file; default: ./breakeven.yaml.")]
