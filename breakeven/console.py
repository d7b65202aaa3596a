"""Where commands write: results to stdout, so that they can be piped, everything said on the way to stderr."""

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console

# What is printed holds texts of users: a note, a path or a passage is shown as it is, whatever it means to rich.
console = Console(stderr=True, highlight=False, markup=False, emoji=False)
output = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)

Config = Annotated[Path | None, typer.Option("--config", "-c", help="Configuration file; default: ./breakeven.yaml.")]


def print_json(value: Any) -> None:
    """For `--json`: indented, on standard output; money as a string, as everywhere."""
    output.print(orjson.dumps(value, default=str, option=orjson.OPT_INDENT_2).decode())
