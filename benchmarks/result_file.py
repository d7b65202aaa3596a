"""A measurement's result as JSON: printed for whoever waits for it, and in the file that is committed.

A result is a dataclass with the Origin of its figures, or plain data that holds such.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console


def show(result: Any, out: Path | None) -> None:
    """Prints the result to standard output, and keeps it."""
    Console().print_json(_text(result))
    keep(result, out)


def keep(result: Any, out: Path | None) -> None:
    """Writes the result to `out`, if that is given. Whoever is cut short leaves what was there before."""
    if out is None:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f"partial-{out.name}")
    partial.write_text(_text(result) + "\n", encoding="utf-8")
    partial.replace(out)


def _text(result: Any) -> str:
    return json.dumps(result, indent=2, default=asdict)
