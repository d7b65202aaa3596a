"""What commands there are, and what becomes of a user's mistake.

Only the module of the command that runs is imported: `breakeven --help` must not wait for Chroma.
"""

import importlib
import sqlite3
import sys
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import typer

from breakeven.console import console

# Where each command or group of commands is, and the first line of its help.
COMMANDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "serve": ("breakeven.serve:serve", "Start the engine and the gateway; Ctrl-C stops both."),
        "ingest": ("breakeven.documents:ingest", "Add documents to a knowledge base."),
        "search": ("breakeven.documents:search", "Show the passages that a question finds, with their scores."),
        "calibrate": ("breakeven.documents:calibrate", "Set the minimum score below which questions are refused."),
        "data": ("breakeven.data:app", "Check a training set, or make one."),
        "train": ("breakeven.train:train", "Train a LoRA adapter from a recipe and install it into the registry."),
        "adapters": ("breakeven.versions:app", "List, try, promote and roll back adapter versions."),
        "keys": ("breakeven.keys:app", "Make, list, update and revoke API keys."),
        "bench": (
            "breakeven.bench:bench",
            "Measure throughput, latency, goodput and cost per query of an OpenAI endpoint.",
        ),
        "top": (
            "breakeven.top:top",
            "Watch what a running gateway's traffic costs, and where it breaks even; Ctrl-C ends it.",
        ),
        "ledger": ("breakeven.ledger:app", "Export what every request cost, and show how the fleet was scaled."),
        "experiment": ("breakeven.experiment:app", "Run experiments."),
        "report": ("breakeven.report:report", "Write the report: one page with ten plots, and the same as Markdown."),
        "whatif": (
            "breakeven.economics:whatif",
            "Say whether self-hosting pays, at what volume, and how sure.",
        ),
        "advise": (
            "breakeven.advise:advise",
            "Advise RAG, fine-tuning, both or a hosted API, and say what would change that.",
        ),
        "claims": (
            "breakeven.claims:claims",
            "Judge what five documents claim about the cost of answers.",
        ),
        "eval": ("breakeven.eval:app", "Measure quality on test sets."),
    }
)


def command_line(arguments: Sequence[str]) -> typer.Typer:
    """The program, with the command that `arguments` begin with; the others are in the list of commands only."""
    app = typer.Typer(name="breakeven", no_args_is_help=True, pretty_exceptions_enable=False, add_completion=False)
    app.callback(help="Serve models, retrieve documents, train adapters, and find out what a query really costs.")(_top)
    for name, (place, summary) in COMMANDS.items():
        if list(arguments[:1]) != [name]:
            app.command(name, help=summary)(_top)
        elif isinstance(found := _import(place), typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def _top() -> None:
    pass


def _import(place: str) -> typer.Typer | Callable[..., None]:
    module, _, name = place.partition(":")
    found: typer.Typer | Callable[..., None] = getattr(importlib.import_module(module), name)
    return found


def main() -> None:
    """Entry point: a user's mistake is one line on stderr and status 1, never a traceback."""
    try:
        command_line(sys.argv[1:])()
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        # Imported only now, since the module sees every package.
        if isinstance(error, importlib.import_module("breakeven.mistakes").MISTAKES):
            console.print(f"error: {error}", style="red")
        elif isinstance(error, OSError | sqlite3.Error):
            advice = "check that BREAKEVEN_HOME can be written and is whole"
            console.print(f"error: {error}; {advice}", style="red")
        else:
            raise
        sys.exit(1)
