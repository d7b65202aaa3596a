"""Recorded traffic: when requests came and how long they were, as in Azure's public LLM inference traces.

A CSV with the columns TIMESTAMP, ContextTokens and GeneratedTokens. Their text is not public, so prompts are made up in
the same lengths.
"""

import csv
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from benchmarks.errors import PlanError
from benchmarks.load.arrivals import Replay
from benchmarks.load.text import Text
from benchmarks.load.workload import Workload, lengths

_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


@dataclass(frozen=True)
class Traced:
    """One recorded request: seconds since the first of the file, and its lengths."""

    at_s: float
    prompt_tokens: int
    output_tokens: int


def read_trace(path: Path) -> list[Traced]:
    """In order of time. PlanError names the line that is not one."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"cannot read the trace {path}: {error}") from error
    if not rows or any(column not in rows[0] for column in _COLUMNS):
        raise PlanError(f"{path} is no trace: its first line must name {', '.join(_COLUMNS)}, and requests must follow")
    found = [_traced(row, f"{path}:{number}") for number, row in enumerate(rows, start=2)]
    began = min(at for at, _, _ in found)
    return sorted((Traced((at - began).total_seconds(), p, o) for at, p, o in found), key=lambda traced: traced.at_s)


def replay(
    path: Path, speed: float, window: str | None, text: Text, *, longest: int | None = None, seed: int = 0
) -> tuple[Replay, Workload]:
    """The load and the prompts of a trace's `window` (FROM:TO in seconds of the trace). Prompts above `longest` tokens
    are cut to it, and the label says how many were."""
    begin, end = _window(window)
    traced = [each for each in read_trace(path) if begin <= each.at_s < end]
    if not traced:
        raise PlanError(f"{path} has no requests in the window {window}; its seconds count from its first request")
    cut = sum(longest is not None and each.prompt_tokens > longest for each in traced)
    shapes = [(max(1, min(each.prompt_tokens, longest or each.prompt_tokens)), each.output_tokens) for each in traced]
    said = path.name + (f" ({cut} of {len(traced)} prompts cut to {longest} tokens)" if cut else "")
    starts = tuple(each.at_s - begin for each in traced)
    return Replay(starts, path.name, speed, window), lengths(shapes, said, seed, text)


def _traced(row: dict[str, str], where: str) -> tuple[datetime, int, int]:
    try:
        at, prompt, output = (row[column] for column in _COLUMNS)
        whole, _, fraction = at.partition(".")  # seven digits, one more than Python takes
        when = datetime.fromisoformat(f"{whole}.{fraction[:6].ljust(6, '0')}")
        return when, int(prompt), max(1, int(output))
    except (ValueError, TypeError, AttributeError) as error:
        raise PlanError(f"{where} is no request of a trace: {error}") from error


def _window(window: str | None) -> tuple[float, float]:
    if window is None:
        return 0.0, float("inf")
    begin, _, end = window.partition(":")
    try:
        bounds = float(begin or 0), float(end or "inf")
    except ValueError:
        bounds = (1.0, 0.0)
    if bounds[0] < 0 or bounds[0] >= bounds[1]:
        raise PlanError(f"--window {window!r} must be FROM:TO in seconds of the trace, such as 600:1200")
    return bounds
