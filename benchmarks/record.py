"""Raw timings of a load run, as rows of a JSONL file under one header line.

Only what happened is stored; every metric is derived later, so that a new question needs no new run.
"""

import dataclasses
import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import orjson

from benchmarks.errors import PlanError
from benchmarks.origin import commit, cpu_model, memory_gib
from benchmarks.plan import LoadPlan, Slo

Outcome = Literal[
    "answered",  # the model's answer, whole
    "abstained",  # whole, but the gateway declined for lack of evidence and no model ran
    "http_error",  # a status other than 200
    "error_event",  # the stream said that it failed
    "truncated",  # the stream or body ended early: no [DONE], or no finish reason
    "bad_response",  # not what OpenAI's API answers
    "timeout",
    "connection_error",
]


@dataclass(frozen=True)
class RequestRow:
    """One request. Times are seconds since the run began; a time that never came is None.

    `chunks_s` has the arrival of every chunk that carried generated content, the first being the first token. Chunks
    that arrive in one network read share a time. `last_s` is when the request was over, well or not. `cost` is the
    response's `breakeven.cost` object as it came; other servers send none.
    """

    index: int
    scheduled_s: float
    sent_s: float
    first_byte_s: float | None
    chunks_s: tuple[float, ...]
    last_s: float
    status: int | None
    outcome: Outcome
    error: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cost: dict[str, Any] | None = None

    @property
    def succeeded(self) -> bool:
        """A whole, valid response, the model's or the gateway's."""
        return self.outcome in ("answered", "abstained")

    @property
    def ttft_s(self) -> float | None:
        """Scheduled time to first token; None when no token came."""
        return self.chunks_s[0] - self.scheduled_s if self.chunks_s else None

    @property
    def e2e_s(self) -> float:
        """Scheduled time to the end."""
        return self.last_s - self.scheduled_s


@dataclass(frozen=True)
class RunHeader:
    """What was run, against what, from which machine and which code."""

    command: str
    endpoint: str
    model: str
    load: str
    workload: str
    stream: bool
    slo: Slo
    commit: str
    started_at: str
    cpu_model: str
    cores: int
    memory_gib: float
    python: str


@dataclass(frozen=True)
class LoadResult:
    """A finished run: the header and one row per request sent."""

    header: RunHeader
    rows: tuple[RequestRow, ...]


class RowFile:
    """Writes rows as they come, so that an interrupted run keeps what it measured.

    Never over an earlier run: PlanError when the file exists. A run that sent nothing leaves no file.
    """

    def __init__(self, path: Path, header: RunHeader) -> None:
        self._path = path
        self._rows = 0
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = path.open("xb")
        except FileExistsError as error:
            raise PlanError(f"{path} already holds a run; name another file with --out") from error
        except OSError as error:
            raise PlanError(f"cannot write {path} ({error.strerror}); name another file with --out") from error
        self._put({"header": dataclasses.asdict(header)})

    def write(self, row: RequestRow) -> None:
        """Appends one row."""
        self._put(dataclasses.asdict(row))
        self._rows += 1

    def _put(self, value: dict[str, Any]) -> None:
        self._file.write(orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE))

    def __enter__(self) -> "RowFile":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()
        if not self._rows:
            self._path.unlink()


def read_rows(path: Path) -> LoadResult:
    """A run as RowFile wrote it. PlanError when the file is not one."""
    try:
        head, *lines = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        slo = Slo(**head["header"].pop("slo"))
        return LoadResult(RunHeader(**head["header"], slo=slo), tuple(_row(line) for line in lines))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PlanError(f"{path} is not a load run's raw file ({type(error).__name__}); make one with --out") from error


def _row(line: dict[str, Any]) -> RequestRow:
    return RequestRow(**{**line, "chunks_s": tuple(line["chunks_s"])})


def describe(plan: LoadPlan) -> RunHeader:
    """The header of a run that starts now on this machine."""
    return RunHeader(
        command=plan.command(),
        endpoint=plan.endpoint,
        model=plan.model,
        load=plan.load,
        workload=plan.workload.label,
        stream=plan.stream,
        slo=plan.slo,
        commit=commit(),
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        cpu_model=cpu_model(),
        cores=os.cpu_count() or 0,
        memory_gib=memory_gib(),
        python=platform.python_version(),
    )
