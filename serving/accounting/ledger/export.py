"""The ledger's rows for other tools: each request with its cost by stage, and what of the bill belongs to none.

So the sum of what is exported is the bill of the window. Rows come in pieces, so that any window fits in memory.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from serving.accounting.cost import money
from serving.accounting.ledger.database import Database
from serving.accounting.ledger.gap import DOWN
from serving.accounting.stages import STAGES, divide

_PERIODS = (
    "SELECT periods.run_id, runs.usd_per_hour, runs.price_id, MIN(seq), MAX(seq), "
    "MIN(began_at), MAX(periods.ended_at), "
    "SUM(periods.busy_s - periods.settled_busy_s + periods.host_s - periods.settled_host_s), "
    "SUM(periods.idle_s - periods.settled_idle_s), MAX(runs.simulated), MAX(runs.ending) "
    "FROM periods JOIN runs ON runs.run_id = periods.run_id "
    "WHERE periods.ended_at > ? AND periods.ended_at <= ? "
    "GROUP BY periods.run_id, runs.usd_per_hour, runs.price_id ORDER BY MIN(began_at)"
)
_COLUMNS = (
    "request_id", "run_id", "period", "started_at", "ended_at", "endpoint", "model", "engine_model", "adapter",
    "knowledge", "tenant", "key_id", "stream", "outcome", "status", "error_code", "passages", "best_score",
    "prompt_tokens", "cached_tokens", "retrieved_tokens", "completion_tokens", "tokens_estimated", "ttft_s",
    "duration_s", "embed_s", "search_s", "rerank_s", "busy_s", "host_s", "idle_s", "prefill_s",
    "prefill_apportioned", "route_s",
    "usage_usd", "allocation_usd", "simulated",
)  # fmt: skip
_REQUESTS = f"SELECT {', '.join(_COLUMNS)} FROM requests WHERE run_id = ? AND period BETWEEN ? AND ? ORDER BY ended_at"
# Periods are up to a minute: at a thousand requests a second this is some tens of thousands of rows.
_AT_ONCE = 6
_TEXTS = ("endpoint", "model", "engine_model", "tenant", "key_id")
COLUMNS = (*_COLUMNS, *(f"{stage}_usd" for stage in STAGES), "price_id", "usd_per_hour")
# Lines of the bill that are no request: what runs still, less what ran at the beginning; and idle time not drawn, or
# that of a gateway which was down.
IN_PROGRESS, NOT_DRAWN = "in_progress", "idle_not_drawn"
Line = Mapping[str, Any]


def lines(ledger: Database, since: float, until: float) -> Iterator[Line]:
    """Every row of COLUMNS, of the periods that end after `since` and not after `until` (seconds since 1970). US
    dollars are decimal strings. Raises LedgerError."""
    for run_id, usd_per_hour, price_id, first, last, *rest in ledger.rows(_PERIODS, (since, until)):
        began_at, ended_at, running_s, idle_s, simulated, ending = rest
        price = {"price_id": price_id, "usd_per_hour": usd_per_hour}
        usd_per_s = Decimal(usd_per_hour) / 3600
        for seq in range(first, last + 1, _AT_ONCE):
            for row in ledger.rows(_REQUESTS, (run_id, seq, min(last, seq + _AT_ONCE - 1))):
                request = dict(zip(_COLUMNS, row, strict=True))
                yield {**request, **_stages(request, usd_per_s), **price}
        for outcome, busy, idle in (
            (IN_PROGRESS, running_s, 0.0),
            (DOWN if ending == DOWN else NOT_DRAWN, 0.0, idle_s),
        ):
            if busy or idle:
                when = (began_at, ended_at)
                yield {**_rest(run_id, outcome, when, (busy, idle), usd_per_s), "simulated": simulated, **price}


def _rest(
    run_id: str, outcome: str, when: tuple[float, float], seconds: tuple[float, float], usd_per_s: Decimal
) -> dict[str, Any]:
    busy_s, idle_s = seconds
    line: dict[str, Any] = dict.fromkeys(COLUMNS)
    line |= dict.fromkeys(_TEXTS, "-")
    line |= {name: 0 for name in COLUMNS if name.endswith("_tokens") or name in ("stream", "status", "passages")}
    line |= {
        "request_id": f"{outcome}-{run_id[:12]}",
        "run_id": run_id,
        "outcome": outcome,
        "started_at": when[0],
        "ended_at": when[1],
        "duration_s": when[1] - when[0],
        "tokens_estimated": 0,
        "prefill_apportioned": 0,
        "busy_s": busy_s,
        "host_s": 0.0,
        "idle_s": idle_s,
        "route_s": 0.0,
        "usage_usd": money(Decimal(busy_s) * usd_per_s),
        "allocation_usd": money(Decimal(busy_s + idle_s) * usd_per_s),
    }
    return line | _stages(line, usd_per_s)


def _stages(line: Mapping[str, Any], usd_per_s: Decimal) -> dict[str, str]:
    measured = (line["embed_s"] or 0.0, line["search_s"] or 0.0, line["rerank_s"] or 0.0)
    engine = (line["route_s"], line["prefill_s"])
    seconds = divide(line["busy_s"], line["idle_s"], line["host_s"], measured, engine)
    return {f"{stage}_usd": money(Decimal(each) * usd_per_s) for stage, each in zip(STAGES, seconds, strict=True)}
