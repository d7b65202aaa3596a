"""The results file of an experiment: a head line that says on what it was measured, then one line per finished cell.

Raw timings and counters only; every metric is derived later (`findings`). A line is written whole or not at all, so an
interrupted experiment goes on at the first cell that is missing.
"""

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from benchmarks.errors import ResultsError
from benchmarks.experiments.plan import Cell, ExperimentPlan
from benchmarks.plan import Slo
from benchmarks.record import RequestRow

FORMAT = 1
# Microseconds: finer is noise, and half the bytes.
_DIGITS = 6
_TIMES = ("scheduled_s", "sent_s", "first_byte_s", "last_s")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """On what an experiment ran. Results with different fingerprints are never put together.

    `device`: the accelerator's name, or the processor's. `engine`: name and version. `price`: what the machine costs
    an hour, as the gateway says it. `simulated`: no model was behind the answers.
    """

    device: str
    device_kind: str
    device_count: int
    cpu_model: str
    cores: int
    memory_gib: float
    engine: str
    base_model: str
    simulated: bool

    @property
    def machine(self) -> str:
        """The machine in a few words."""
        if self.device_kind == "gpu":
            return self.device if self.device_count == 1 else f"{self.device_count} x {self.device}"
        return f"CPU ({self.cpu_model}, {self.cores} cores)"


@dataclass(frozen=True, slots=True)
class Head:
    """The first line. `price` is the gateway's price object, {} when it stated none."""

    plan: str
    about: str
    digest: str
    objectives: Slo
    fingerprint: Fingerprint
    price: Mapping[str, Any]
    command: str
    commit: str
    started_at: str
    cells: int


@dataclass(frozen=True, slots=True)
class Run:
    """A finished cell: its requests, and the counters of gateway and engine before and after it."""

    cell: Cell
    started_at: str
    wall_s: float
    rows: tuple[RequestRow, ...]
    before: Mapping[str, float]
    after: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Results:
    """One file. `name` is the file's, without folder and ending."""

    name: str
    head: Head
    runs: tuple[Run, ...]

    @property
    def complete(self) -> bool:
        """Whether every cell of the plan is there."""
        return len(self.runs) >= self.head.cells


_HEAD = TypeAdapter(Head)
_RUN = TypeAdapter(Run)


class ResultsFile:
    """Appends finished cells to a file, old or new. ResultsError when the file belongs to another experiment."""

    def __init__(self, path: Path, head: Head) -> None:
        self._path = path
        self.done: frozenset[str] = frozenset()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists() and path.stat().st_size:
                held = read_results(path)
                _check_same(path, held.head, head)
                self.done = frozenset(run.cell.id for run in held.runs)
                _cut_torn_line(path)
            else:
                self._append({"head": dataclasses.asdict(head), "format": FORMAT})
        except OSError as error:
            raise ResultsError(f"cannot write {path} ({error.strerror}); name another file with --out") from error

    def write(self, run: Run) -> None:
        """Adds a finished cell, on disk before this returns."""
        self._append({"run": _plain(run)})

    def _append(self, value: Mapping[str, Any]) -> None:
        with self._path.open("ab") as file:
            file.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())


def _check_same(path: Path, held: Head, head: Head) -> None:
    if held.digest != head.digest:
        raise ResultsError(f"{path} holds results of another plan, or of this one before it was changed; "
                           "name another file with --out, or remove it")  # fmt: skip
    if held.fingerprint != head.fingerprint:
        parts = dataclasses.asdict(held.fingerprint)
        now = dataclasses.asdict(head.fingerprint)
        different = ", ".join(f"{key} {parts[key]!r}, now {now[key]!r}" for key in parts if parts[key] != now[key])
        raise ResultsError(f"{path} was measured on something else ({different}); name another file with --out")


def _cut_torn_line(path: Path) -> None:
    content = path.read_bytes()
    if not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


def read_results(path: Path) -> Results:
    """A results file. ResultsError when it is none, or is damaged anywhere but in the line that was being written."""
    try:
        *lines, torn = path.read_bytes().split(b"\n")
    except OSError as error:
        raise ResultsError(f"cannot read {path}: {error.strerror or error}") from error
    if not lines:
        what = "is empty" if not torn else "is no results file of an experiment"
        raise ResultsError(f"{path} {what}; make one with `breakeven experiment run PLAN.yaml`")
    try:
        first, *rest = [orjson.loads(line) for line in lines]
        if first["format"] != FORMAT:
            raise ResultsError(f"{path} has format {first['format']!r}, this version reads {FORMAT}; measure again")
        runs = tuple(_RUN.validate_python(line["run"]) for line in rest)
        return Results(path.stem, _HEAD.validate_python(first["head"]), runs)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ResultsError(
            f"{path} is no results file of an experiment ({type(error).__name__}: {str(error)[:80]}); "
            "make one with `breakeven experiment run PLAN.yaml`"
        ) from error


def head_of(
    plan: ExperimentPlan, fingerprint: Fingerprint, price: Mapping[str, Any], origin: tuple[str, str, str]
) -> Head:
    """The head of an experiment that starts now; `origin` is command, commit and time."""
    return Head(plan.name, plan.about, plan.digest, plan.objectives, fingerprint, price, *origin, len(plan.cells))


def _plain(run: Run) -> dict[str, Any]:
    return {**dataclasses.asdict(run), "rows": [_row_to_plain(row) for row in run.rows]}


def _row_to_plain(row: RequestRow) -> dict[str, Any]:
    held = dataclasses.asdict(row)
    for key in _TIMES:
        if held[key] is not None:
            held[key] = round(held[key], _DIGITS)
    return {**held, "chunks_s": [round(at, _DIGITS) for at in row.chunks_s]}
