"""What judging a version needs: a request by its id, with who asked and which version answered, and what a version's
answers cost of late. Recent requests are in memory, others in the ledger, which gets them up to a second late."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from serving.accounting.ledger.database import Database
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


def usage(ledger: Database | None, adapter: str, since: float) -> Usage:
    """From the ledger, in any thread; `since` is in seconds since 1970. Raises LedgerError."""
    if ledger is None:
        return Usage(0, None, None)
    query = (
        "SELECT COUNT(*), AVG(CAST(allocation_usd AS DOUBLE PRECISION)), AVG(duration_s) FROM requests "
        "WHERE started_at >= ? AND adapter = ? AND outcome = 'complete'"
    )
    return Usage(*ledger.rows(query, (since, adapter))[0])


class RecentRequests:
    """A sink of the request record. `flush` brings those that are on their way."""

    def __init__(self, ledger: Database, flush: Callable[[], None]) -> None:
        self._ledger, self._flush = ledger, flush
        self._recent: OrderedDict[str, Answered] = OrderedDict()

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        found = Answered(record.tenant, record.model, record.adapter, record.outcome, record.started_at)
        self._recent[record.id] = found
        if len(self._recent) > _REMEMBERED:
            self._recent.popitem(last=False)

    def remembered(self, request_id: str) -> Answered | None:
        """From memory, on the event loop."""
        self._flush()
        return self._recent.get(request_id)

    def find(self, request_id: str) -> Answered | None:
        """From the ledger, in any thread. Raises LedgerError."""
        query = "SELECT tenant, model, adapter, outcome, started_at FROM requests WHERE request_id = ?"
        rows = self._ledger.rows(query, (request_id,))
        return Answered(*rows[0]) if rows else None
