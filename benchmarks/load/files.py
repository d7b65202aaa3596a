"""The results file of load runs: JSON Lines, gzip'ed where its name ends in .gz. docs/results.md describes it.

Rows are written as they come, so that an interrupted run keeps what it measured; it then has no `end` line.
"""

import dataclasses
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from benchmarks.errors import PlanError
from benchmarks.load.counted import Counted
from benchmarks.load.plan import Slo
from benchmarks.load.record import LoadResult, RequestRow, RunHeader
from benchmarks.origin import Gpu, Origin

FORMAT = "breakeven-load/1"
_TICK_S = 1e-5  # of every time in a file


@dataclass(frozen=True)
class Results:
    """A results file: where it comes from, and its runs in the order they were made."""

    origin: Origin
    runs: tuple[LoadResult, ...]


class ResultsFile:
    """Writes runs one after another. Never over earlier results: PlanError when the file exists. A file without a
    single row is removed again."""

    def __init__(self, path: Path, origin: Origin) -> None:
        self._path, self._rows = path, 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = path.open("xb")
        except FileExistsError as error:
            raise PlanError(f"{path} already holds results; name another file with --out") from error
        except OSError as error:
            raise PlanError(f"cannot write {path} ({error.strerror}); name another file with --out") from error
        # Without the time of writing, equal results are equal files.
        self._file = gzip.GzipFile("", "wb", fileobj=raw, mtime=0) if path.suffix == ".gz" else raw
        self._raw = raw
        self._put({"format": FORMAT, "origin": dataclasses.asdict(origin)})

    def begin(self, header: RunHeader) -> None:
        """A run begins."""
        self._put({"run": dataclasses.asdict(header)})

    def write(self, row: RequestRow) -> None:
        """One of its requests is over."""
        self._put({"request": _packed(row)})
        self._rows += 1

    def end(self, result: LoadResult) -> None:
        """The run is over."""
        counted = [dataclasses.asdict(page) for page in result.counted]
        self._put({"end": {"requests": len(result.rows), "counted": counted, "errors": result.errors}})
        self._file.flush()

    def _put(self, value: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        self._raw.close()
        if not self._rows:
            self._path.unlink()


def read_results(path: Path) -> Results:
    """As ResultsFile wrote it. PlanError when the file is not one, or a run in it was interrupted."""
    try:
        head, *lines = [orjson.loads(line) for line in _lines(path)]
        if head["format"] != FORMAT:
            raise PlanError(f"{path} has the format {head['format']!r}, this version reads {FORMAT!r}")
        return Results(_origin(head["origin"]), tuple(_runs(lines, path)))
    except (OSError, EOFError, ValueError, TypeError, KeyError) as error:
        raise PlanError(f"{path} is no results file ({type(error).__name__}); make one with --out") from error


def _lines(path: Path) -> list[bytes]:
    raw = path.read_bytes()
    return (gzip.decompress(raw) if path.suffix == ".gz" else raw).splitlines()


def _runs(lines: Iterable[dict[str, Any]], path: Path) -> Iterator[LoadResult]:
    header: RunHeader | None = None
    rows: list[RequestRow] = []
    for line in lines:
        if "run" in line:
            slo = Slo(**line["run"].pop("slo"))
            header, rows = RunHeader(**{**line["run"], "slo": slo, "models": tuple(line["run"]["models"])}), []
        elif "request" in line:
            rows.append(_unpacked(line["request"]))
        elif header is not None:
            counted = tuple(Counted(**page) for page in line["end"]["counted"])
            yield LoadResult(header, tuple(rows), counted, tuple(line["end"]["errors"]))
            header = None
    if header is not None:
        raise PlanError(f"{path}: its last run was interrupted; delete the file and measure again")


def _origin(value: dict[str, Any]) -> Origin:
    return Origin(**{**value, "gpus": tuple(Gpu(**gpu) for gpu in value["gpus"])})


def _packed(row: RequestRow) -> dict[str, Any]:
    """Token times as whole ticks after the one before, which take a quarter of the room."""
    fields = {name: value for name, value in dataclasses.asdict(row).items() if value is not None}
    ticks = [round(at / _TICK_S) for at in row.chunks_s]
    fields["chunks_s"] = row.chunks_s[0] if row.chunks_s else None
    fields["gaps"] = [after - before for before, after in pairwise(ticks)]
    return fields


def _unpacked(fields: dict[str, Any]) -> RequestRow:
    first, gaps = fields.pop("chunks_s"), fields.pop("gaps")
    times = [] if first is None else [round(first / _TICK_S)]
    for gap in gaps:
        times.append(times[-1] + gap)
    missing = {"first_byte_s": None, "status": None}
    return RequestRow(**{**missing, **fields, "chunks_s": tuple(round(tick * _TICK_S, 5) for tick in times)})
