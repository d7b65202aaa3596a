"""Finds a request again by its id: who asked, and which version answered. Recent ones from memory, others from the
ledger, which gets them up to a second late."""

import sqlite3
from collections import OrderedDict
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from serving.accounting.record import RequestRecord

_REMEMBERED = 10_000


@dataclass(frozen=True, slots=True)
class Answered:
    """What there is to know about a request for judging its answer."""

    tenant: str
    model: str
    adapter: str | None
    outcome: str
    started_at: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What a version's complete answers of the last days were like, per request: US dollars, idle time included, and
    seconds. `mean_*` are None without any."""

    requests: int
    mean_cost_usd: float | None
    mean_seconds: float | None


def usage(ledger: Path, adapter: str, since: float) -> Usage:
    """From the ledger, in any thread; `since` is in seconds since 1970."""
    if not ledger.is_file():
        return Usage(0, None, None)
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=30)) as database:
        query = (
            "SELECT COUNT(*), AVG(CAST(allocation_usd AS REAL)), AVG(duration_s) FROM requests "
            "WHERE started_at >= ? AND adapter = ? AND outcome = 'complete'"
        )
        return Usage(*database.execute(query, (since, adapter)).fetchone())


class RecentRequests:
    """A sink of the request record."""

    def __init__(self, ledger: Path) -> None:
        self._ledger = ledger
        self._recent: OrderedDict[str, Answered] = OrderedDict()

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        found = Answered(record.tenant, record.model, record.adapter, record.outcome, record.started_at)
        self._recent[record.id] = found
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def remembered(self, request_id: str) -> Answered | None:
        """From memory, on the event loop."""
        return self._recent.get(request_id)

    def find(self, request_id: str) -> Answered | None:
        """From the ledger, in any thread."""
        with closing(sqlite3.connect(f"file:{self._ledger}?mode=ro", uri=True, timeout=30)) as database:
            query = "SELECT tenant, model, adapter, outcome, started_at FROM requests WHERE request_id = ?"
            row = database.execute(query, (request_id,)).fetchone()
        return None if row is None else Answered(*row)
