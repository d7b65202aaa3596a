"""What is recorded of a load run: the run itself, one row per request, and what the servers counted.

Only what happened is stored; every metric is derived later, so that a new question needs no new run. The file format is
in `files` and in docs/results.md.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from benchmarks.load.arrivals import Closed, Open
from benchmarks.load.counted import Counted
from benchmarks.load.plan import LoadPlan, Slo

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
    """One request. Times are seconds since the run began, to 10 microseconds; a time that never came is None.

    `scheduled_s` is the intended start: in an open loop fixed beforehand, in a closed one the moment its user was free.
    `chunks_s` has the arrival of every chunk that carried generated content, the first being the first token. Chunks
    that arrive in one network read share a time. `last_s` is when the request was over, well or not. `cost` is the
    response's `breakeven.cost` object as it came; other servers send none. `cached_tokens` is the part of the prompt
    found in the prefix cache, where the server says so.
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
    cached_tokens: int | None = None
    cost: dict[str, Any] | None = None
    model: str = ""
    tenant: str | None = None

    @property
    def succeeded(self) -> bool:
        """A whole, valid response, the model's or the gateway's."""
        return self.outcome in ("answered", "abstained")

    @property
    def ttft_s(self) -> float | None:
        """Scheduled time to first token; None when no token came."""
        return self.chunks_s[0] - self.scheduled_s if self.chunks_s else None

    @property
    def itl_s(self) -> float | None:
        """Mean time between tokens: from the first to the last, over the tokens after the first. None below two."""
        tokens = self.completion_tokens or len(self.chunks_s)
        if tokens < 2 or len(self.chunks_s) < 2:
            return None
        return (self.chunks_s[-1] - self.chunks_s[0]) / (tokens - 1)

    @property
    def e2e_s(self) -> float:
        """Scheduled time to the end."""
        return self.last_s - self.scheduled_s


@dataclass(frozen=True)
class RunHeader:
    """One run: what was asked of what, how.

    `loop`, `rate` (arrivals per second), `concurrency`: the load as numbers; `load` says it in words. `server` is what
    the endpoint said of itself. `labels` are the experiment's own, such as stage, repeat, or number of adapters.
    """

    command: str
    endpoint: str
    models: tuple[str, ...]
    load: str
    loop: Literal["closed", "open", "replay"]
    concurrency: int | None
    rate: float | None
    workload: str
    stream: bool
    max_tokens: int
    seed: int
    slo: Slo
    started_at: str
    server: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadResult:
    """A finished run: its header, one row per request sent (a warm-up's are not kept), the servers' counters around
    exactly those requests, and what was wrong with the run as a whole."""

    header: RunHeader
    rows: tuple[RequestRow, ...]
    counted: tuple[Counted, ...] = ()
    errors: tuple[str, ...] = ()


def describe(plan: LoadPlan, labels: dict[str, str | int | float] | None = None) -> RunHeader:
    """The header of a run that starts now."""
    load = plan.load
    return RunHeader(
        command=plan.command(),
        endpoint=plan.endpoint,
        models=tuple(target.model for target in plan.targets),
        load=str(load),
        loop="closed" if isinstance(load, Closed) else "open" if isinstance(load, Open) else "replay",
        concurrency=load.concurrency if isinstance(load, Closed) else None,
        rate=load.rate if isinstance(load, Open) else None,
        workload=plan.workload.label,
        stream=plan.stream,
        max_tokens=plan.max_tokens,
        seed=plan.seed,
        slo=plan.slo,
        started_at=datetime.now(UTC).isoformat(timespec="seconds"),
        labels=labels or {},
    )
