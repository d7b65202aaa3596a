"""The one record that a request leaves behind. Everything else (metrics, ledger, log, cost) is derived from it."""

from dataclasses import dataclass
from typing import Literal, Protocol

# Every request ends in exactly one of these.
Outcome = Literal["complete", "abstained", "error", "cancelled"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token counts of one request, from the engine's usage object.

    `cached` and `retrieved` are parts of `prompt`. `retrieved` is modelled: the passages' share of the prompt by
    characters. `estimated` means that the stream broke off before the engine reported its usage.
    """

    prompt: int = 0
    cached: int = 0
    retrieved: int = 0
    completion: int = 0
    estimated: bool = False


@dataclass(frozen=True, slots=True)
class Share:
    """Accelerator seconds that belong to one request: its part of busy time, and of idle time spread over requests."""

    busy_s: float = 0.0
    idle_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds on one monotonic clock; None where the request never got there."""

    received: float
    engine_sent: float | None = None
    first_token: float | None = None
    last_token: float | None = None
    ended: float = 0.0
    embed_s: float | None = None
    search_s: float | None = None
    rerank_s: float | None = None


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request from start to finish."""

    id: str
    started_at: float
    endpoint: str
    model: str
    engine_model: str
    adapter: str | None
    knowledge: str | None
    tenant: str
    key_id: str
    stream: bool
    outcome: Outcome
    status: int
    error_code: str | None
    passages: int
    best_score: float | None
    tokens: Tokens
    times: Times
    share: Share
    simulated: bool
    # Numbers in the answer's text: of passages supplied, and of none.
    cited: int = 0
    unmatched_citations: int = 0


class Sink(Protocol):
    """Takes every record; must not block and must not raise."""

    def record(self, record: RequestRecord) -> None:
        """Take one record."""
