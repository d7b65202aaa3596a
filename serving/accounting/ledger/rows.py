"""Records as rows of the ledger's tables."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.accounting.cost import GpuPrice, money, request_cost
from serving.accounting.ledger.database import Step, Values
from serving.accounting.meter import Bill
from serving.accounting.record import RequestCost, RequestRecord, Routed, Share, Unfinished

# Outcomes of rows that no answer left: what ran when a process was killed, and what could not be written.
LOST, UNWRITTEN = "lost", "unwritten"
NOBODY = "-"
_LONGEST = 256
_MOST_TOKENS = 10**9
Columns = Mapping[str, Any]
# What a period counts, over its queries.
COUNTS = ("queries", "answered", "abstained", "searched", "prompt_tokens", "cached_tokens", "completion_tokens")
_NO_COUNTS = dict.fromkeys(COUNTS, 0)


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a gateway; `seen_at` (seconds since 1970) is its end once it has an `ending`."""

    id: str
    started_at: float
    seen_at: float
    ending: str | None
    simulated: bool


def step(table: str, rows: Iterable[Columns], *, key: Sequence[str] = ()) -> list[Step]:
    """What inserts the rows, which all have the same columns; those of the same `key` are replaced."""
    names: list[str] = []
    values: list[Values] = []
    for row in rows:
        names = names or list(row)
        values.append(tuple(row.values()))
    return [(_insert(table, names, key), values)] if values else []


def _insert(table: str, names: Sequence[str], key: Sequence[str] = ()) -> str:
    # Table and columns are names of ours; every value is bound.
    sql = f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
    if key:
        others = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
        sql += f" ON CONFLICT ({', '.join(key)}) DO UPDATE SET {others}"
    return sql


# What `_request` gives, in its order.
_REQUEST = (
    *("request_id", "run_id", "period", "started_at", "ended_at", "endpoint", "model", "engine_model", "adapter"),
    *("knowledge", "tenant", "key_id", "stream", "outcome", "status", "error_code", "passages", "best_score"),
    *("prompt_tokens", "cached_tokens", "retrieved_tokens", "completion_tokens", "tokens_estimated"),
    *("ttft_s", "duration_s", "embed_s", "search_s", "rerank_s", "prefill_s", "prefill_apportioned", "route_s"),
    *("simulated", "busy_s", "host_s", "idle_s", "usage_usd", "allocation_usd"),
)
_INSERT_REQUEST = _insert("requests", _REQUEST)


def request_step(records: Iterable[tuple[int, RequestRecord]], run_id: str) -> Step:
    """Requests with their periods. Not by way of `step`: a busy gateway has thousands a second."""
    return _INSERT_REQUEST, [_request(record, run_id, period) for period, record in records]


def _request(record: RequestRecord, run_id: str, period: int) -> Values:
    # Seconds of `busy_s` include `prefill_s` and `route_s`, what its router took.
    tokens, times, share, cost = record.tokens, record.times, record.share, record.cost
    duration = times.ended - times.received
    return (
        record.id,
        run_id,
        period,
        record.started_at,
        record.started_at + duration,
        record.endpoint,
        _text(record.model),
        _text(record.engine_model),
        _maybe(record.adapter),
        _maybe(record.knowledge),
        _text(record.tenant),
        _text(record.key_id),
        int(record.stream),
        record.outcome,
        record.status,
        _maybe(record.error_code),
        record.passages,
        record.best_score,
        count(tokens.prompt),
        count(tokens.cached),
        count(tokens.retrieved),
        count(tokens.completion),
        int(tokens.estimated),
        None if times.first_token is None else times.first_token - times.received,
        duration,
        times.embed_s,
        times.search_s,
        times.rerank_s,
        record.prefill_s,
        int(record.prefill_apportioned),
        0.0 if record.routing is None else record.routing.share.busy_s,
        int(record.simulated),
        share.busy_s,
        share.host_s,
        share.idle_s,
        money(cost.usage_usd),
        money(cost.allocation_usd),
    )


def route_row(request_id: str, routed: Routed, price: GpuPrice) -> Columns:
    """What a classification took; the request's own row includes it."""
    cost = request_cost(routed.share, price)
    return {
        "request_id": request_id,
        "router": _text(routed.router),
        "label": _maybe(routed.label),
        "confidence": routed.confidence,
        "model": _text(routed.model),
        "reason": routed.reason,
        "prompt_tokens": count(routed.tokens.prompt),
        "completion_tokens": count(routed.tokens.completion),
        "busy_s": routed.share.busy_s,
        "idle_s": routed.share.idle_s,
        "usage_usd": money(cost.usage_usd),
        "allocation_usd": money(cost.allocation_usd),
    }


def period_row(
    run_id: str,
    seq: int,
    when: tuple[float, float],
    grown: Bill,
    settled: Share = Share(),
    counts: Mapping[str, int] = _NO_COUNTS,
) -> Columns:
    """A piece of a run's bill: by how much it has `grown`, and how much idle time nobody had drawn at its end."""
    return {
        "run_id": run_id,
        "seq": seq,
        "began_at": when[0],
        "ended_at": when[1],
        "billed_s": grown.billed_s,
        "busy_s": grown.busy_s,
        "host_s": grown.host_s,
        "idle_s": grown.idle_s,
        "settled_busy_s": settled.busy_s,
        "settled_host_s": settled.host_s,
        "settled_idle_s": settled.idle_s,
        "pool_s": grown.unallocated_idle_s,
        **counts,
    }


def run_row(run: Run, price: GpuPrice, bill: Bill, settled: Share = Share(), running: str = "[]") -> Columns:
    """A run and its bill so far. `running`: the requests that run, as JSON."""
    return {
        "run_id": run.id,
        "started_at": run.started_at,
        "seen_at": run.seen_at,
        "ended_at": run.seen_at if run.ending else None,
        "ending": run.ending,
        "price_id": price.id,
        "usd_per_hour": str(price.usd_per_hour),
        "price_source": price.source,
        "price_as_of": price.as_of,
        "simulated": int(run.simulated),
        "billed_s": bill.billed_s,
        "busy_s": bill.busy_s,
        "host_s": bill.host_s,
        "idle_s": bill.idle_s,
        "unallocated_idle_s": bill.unallocated_idle_s,
        "settled_busy_s": settled.busy_s,
        "settled_host_s": settled.host_s,
        "settled_idle_s": settled.idle_s,
        "running": running,
    }


def remainder_row(outcome: str, share: Share, at: float, where: tuple[str, int], price: GpuPrice) -> Columns:
    """Seconds of the bill whose requests are not known, in the run and period `where`."""
    run_id, period = where
    request_id = f"{outcome}-{run_id[:12]}-{period}"
    nobody = Unfinished(request_id, at, NOBODY, NOBODY, NOBODY, None, NOBODY, NOBODY, share.busy_s, share.host_s)
    return unfinished_row(nobody, outcome, at, where, price, share.idle_s)


def unfinished_row(
    request: Unfinished, outcome: str, at: float, where: tuple[str, int], price: GpuPrice, idle_s: float = 0.0
) -> Columns:
    """A request of which only its share is known."""
    run_id, period = where
    share = Share(request.busy_s, idle_s, request.host_s)
    return {
        "request_id": request.id,
        "run_id": run_id,
        "period": period,
        "started_at": request.started_at,
        "ended_at": at,
        "endpoint": request.endpoint,
        "model": _text(request.model),
        "engine_model": _text(request.engine_model),
        "adapter": _maybe(request.adapter),
        "tenant": _text(request.tenant),
        "key_id": _text(request.key_id),
        "stream": 0,
        "outcome": outcome,
        "status": 0,
        "passages": 0,
        "prompt_tokens": 0,
        "cached_tokens": 0,
        "retrieved_tokens": 0,
        "completion_tokens": 0,
        "tokens_estimated": 1,
        "duration_s": max(0.0, at - request.started_at),
        "simulated": 0,
        **_cost(share, request_cost(share, price)),
    }


def _cost(share: Share, cost: RequestCost) -> Columns:
    return {
        "busy_s": share.busy_s,
        "host_s": share.host_s,
        "idle_s": share.idle_s,
        "usage_usd": money(cost.usage_usd),
        "allocation_usd": money(cost.allocation_usd),
    }


def count(tokens: int) -> int:
    """As both databases can hold and sum it, whatever an engine claims."""
    return max(0, min(tokens, _MOST_TOKENS))


def _maybe(text: str | None) -> str | None:
    return None if text is None else _text(text)


def _text(text: str) -> str:
    if len(text) <= _LONGEST and text.isascii() and text.isprintable():
        return text
    # What a client typed may be anything; PostgreSQL holds no NUL, and neither database half a surrogate pair.
    return text[:_LONGEST].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
