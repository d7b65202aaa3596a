"""How long the ledger keeps requests: for ever, unless the operator says otherwise."""

import logging
from dataclasses import dataclass, field

from serving.accounting.ledger.database import Database, LedgerError, Unwritten

logger = logging.getLogger("breakeven.ledger")
_DAY_S = 86_400.0
_EVERY_S = 3600.0
# In pieces, so that writing goes on in between.
_AT_ONCE = 5000
_OLD = f"SELECT run_id, seq FROM periods WHERE ended_at < ? ORDER BY ended_at LIMIT {_AT_ONCE}"  # ours
_ROUTES = "DELETE FROM routes WHERE request_id IN (SELECT request_id FROM requests WHERE run_id = ? AND period = ?)"
_REQUESTS = "DELETE FROM requests WHERE run_id = ? AND period = ?"
_PERIODS = "DELETE FROM periods WHERE run_id = ? AND seq = ?"
_RUNS = "DELETE FROM runs WHERE ended_at < ? AND NOT EXISTS (SELECT 1 FROM periods WHERE periods.run_id = runs.run_id)"
_SCALING = "DELETE FROM scaling WHERE at < ?"


@dataclass(slots=True)
class Retention:
    """Deletes whole periods with their requests once they ended `days` ago, so that what is left still adds up."""

    days: float
    _next_at: float = field(default=0.0, init=False)

    def limit(self, now: float) -> float:
        """What ended before this is too old (seconds since 1970)."""
        return now - self.days * _DAY_S

    def apply(self, database: Database, now: float) -> None:
        """Once an hour, or at once while there is more; in the writer's thread."""
        if now < self._next_at:
            return
        limit = self.limit(now)
        try:
            old = database.rows(_OLD, (limit,))
            ended = [(sql, old) for sql in (_ROUTES, _REQUESTS, _PERIODS)]
            database.write([*ended, *((sql, [(limit,)]) for sql in (_RUNS, _SCALING))])
        except (LedgerError, Unwritten) as error:
            logger.error("ledger: old entries not deleted: %s", error)
            return
        if len(old) < _AT_ONCE:
            self._next_at = now + _EVERY_S
