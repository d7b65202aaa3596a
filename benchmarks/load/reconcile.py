"""The client's figures of a run against the servers' own: requests, tokens, cost.

Two books that are kept apart must agree, or one of them is wrong: a tenant's traffic beside the run, requests that
failed half-way, a counter that counts something else. Beyond 2 % the run is no evidence.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from benchmarks.load.counted import Counted
from benchmarks.load.record import LoadResult, RequestRow, RunHeader

TOLERATED = 0.02


@dataclass(frozen=True)
class Comparison:
    """One quantity as the client and as a Prometheus page counted it."""

    url: str
    quantity: str
    client: float
    server: float

    @property
    def gap(self) -> float:
        """Difference as a share of the larger."""
        most = max(abs(self.client), abs(self.server))
        return abs(self.client - self.server) / most if most else 0.0

    @property
    def within(self) -> bool:
        """Whether the two agree."""
        return self.gap <= TOLERATED


def compare(result: LoadResult) -> tuple[Comparison, ...]:
    """Everything that both sides counted; nothing for a run without a Prometheus page."""
    return tuple(each for page in result.counted for each in _compared(page, result.header, result.rows))


def complaints(compared: Sequence[Comparison]) -> tuple[str, ...]:
    """What does not agree, each with both figures."""
    return tuple(
        f"{each.quantity}: the client counted {each.client:.10g}, {each.url} {each.server:.10g}, a gap of "
        f"{each.gap:.1%} (at most {TOLERATED:.0%}); was there other traffic, or did requests fail?"
        for each in compared
        if not each.within
    )


def settled(page: Counted, header: RunHeader, rows: Sequence[RequestRow]) -> bool:
    """Whether the server has counted all whole requests of the client."""
    found = next((each for each in _compared(page, header, rows) if each.quantity == "requests"), None)
    return found is None or found.server >= found.client


def _compared(page: Counted, header: RunHeader, rows: Sequence[RequestRow]) -> list[Comparison]:
    client: dict[str, float] = {
        "requests": sum(row.succeeded for row in rows),
        "prompt tokens": sum(row.prompt_tokens or 0 for row in rows),
        "completion tokens": sum(row.completion_tokens or 0 for row in rows),
    }
    if page.has("breakeven_requests_total"):
        server = _gateway(page, header)
        for basis in ("allocation", "usage"):
            usd = [Decimal(row.cost[f"{basis}_usd"]) for row in rows if row.cost is not None]
            if usd:
                client[f"{basis} cost, USD"] = float(sum(usd, Decimal(0)))
    elif page.has("vllm:request_success_total"):
        server = _vllm(page)
        # Abstentions never reach the engine.
        client["requests"] = sum(row.outcome == "answered" for row in rows)
    else:
        return []
    return [Comparison(page.url, name, value, server[name]) for name, value in client.items() if name in server]


def _gateway(page: Counted, header: RunHeader) -> dict[str, float]:
    """Of the models asked. Those asked by version share a series, and a router's requests count as its target's: then
    all models count."""
    known = all(page.has_label("breakeven_requests_total", "model", model) for model in header.models)
    models: list[dict[str, Any]] = [{"model": model} for model in header.models] if known else [{}]

    def grew(name: str, **labels: str) -> float:
        return sum(page.grew(name, **labels, **model) for model in models)

    found = {
        "requests": sum(grew("breakeven_requests_total", outcome=outcome) for outcome in ("complete", "abstained")),
        "prompt tokens": grew("breakeven_tokens_total", kind="prompt"),
        "completion tokens": grew("breakeven_tokens_total", kind="completion"),
    }
    return found | {
        f"{basis} cost, USD": grew("breakeven_cost_usd_total", basis=basis) for basis in ("allocation", "usage")
    }


def _vllm(page: Counted) -> dict[str, float]:
    succeeded = ("stop", "length")
    return {
        "requests": sum(page.grew("vllm:request_success_total", finished_reason=reason) for reason in succeeded),
        "prompt tokens": page.grew("vllm:prompt_tokens_total"),
        "completion tokens": page.grew("vllm:generation_tokens_total"),
    }
