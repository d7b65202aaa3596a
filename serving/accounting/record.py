"""The one record that a request leaves behind. Everything else (metrics, ledger, log, cost) is derived from it."""

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Protocol

# Every request ends in exactly one of these.
Outcome = Literal["complete", "abstained", "error", "cancelled"]
# Why a router chose: a confident label, or the fallback because it was unsure or could not classify.
RouteReason = Literal["label", "unsure", "failed"]
_BY_VERSION = "adapter version"


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

    def counts(self) -> dict[str, int]:
        """As responses state them."""
        return {
            "prompt": self.prompt,
            "cached": self.cached,
            "retrieved_estimate": self.retrieved,
            "completion": self.completion,
        }

    def __add__(self, other: "Tokens") -> "Tokens":
        """Of two requests to the engine together."""
        return Tokens(
            self.prompt + other.prompt,
            self.cached + other.cached,
            self.retrieved + other.retrieved,
            self.completion + other.completion,
            self.estimated or other.estimated,
        )

    def __sub__(self, other: "Tokens") -> "Tokens":
        """Of a request without one of its parts."""
        return Tokens(
            self.prompt - other.prompt,
            self.cached - other.cached,
            self.retrieved - other.retrieved,
            self.completion - other.completion,
            self.estimated,
        )


@dataclass(frozen=True, slots=True)
class Share:
    """Accelerator seconds that belong to one request: its part of busy time, of idle time spread over requests, and of
    the time in which the accelerator waited while the machine embedded, searched and reranked (`host_s`)."""

    busy_s: float = 0.0
    idle_s: float = 0.0
    host_s: float = 0.0

    def __add__(self, other: "Share") -> "Share":
        """Of two requests to the engine together."""
        return Share(self.busy_s + other.busy_s, self.idle_s + other.idle_s, self.host_s + other.host_s)


@dataclass(frozen=True, slots=True)
class RequestCost:
    """US dollars. `usage_usd`: the request's share of the time in which the hardware worked, for an answer or to
    retrieve. `allocation_usd`: that plus its share of idle time. `hosted_usd`: what the same tokens would cost at each
    hosted model, by its id."""

    usage_usd: Decimal = Decimal(0)
    allocation_usd: Decimal = Decimal(0)
    hosted_usd: Mapping[str, Decimal] = field(default_factory=dict)


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
class Routed:
    """How the served model `router` passed a request on to `model`: by its label's confidence, or to the fallback.

    `tokens` and `share` are what the classification took; the record's own include them.
    """

    router: str
    label: str | None
    confidence: float | None
    model: str
    reason: RouteReason
    tokens: Tokens
    share: Share


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A request that runs: what is known of it, and its share so far, should this process be killed."""

    id: str
    started_at: float
    endpoint: str
    model: str
    engine_model: str
    adapter: str | None
    tenant: str
    key_id: str
    busy_s: float
    host_s: float


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request from start to finish. `cost` is what `share` and `tokens` come to: computed once, for all sinks.

    `prefill_s`: of its busy seconds, those until the first token of a stream; of a whole answer, whose first token
    nobody saw, they are apportioned (engine_rates.py), which `prefill_apportioned` says. None where neither is known.
    """

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
    cost: RequestCost
    simulated: bool
    # Numbers in the answer's text: of passages supplied, and of none.
    cited: int = 0
    unmatched_citations: int = 0
    routing: Routed | None = None
    prefill_s: float | None = None
    prefill_apportioned: bool = False


def model_label(model: str, models: Container[str]) -> str:
    """The served model as metrics name it. Adapter versions that operators ask for by name are one: there is no end of
    them."""
    return _BY_VERSION if "@" in model and model not in models else model


class Sink(Protocol):
    """Takes every record; must not block and must not raise."""

    def record(self, record: RequestRecord) -> None:
        """Take one record."""
