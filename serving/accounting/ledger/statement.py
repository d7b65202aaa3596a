"""A statement over any window: the bill, and everything that adds up to it. Everything here may block.

A window holds the periods that end in it, so that windows that touch neither overlap nor leave anything out; its edges
are a period's length, at most a minute, from where they were asked for.
"""

from dataclasses import dataclass
from decimal import Decimal

from serving.accounting.ledger.database import Database
from serving.accounting.ledger.gap import DOWN
from serving.accounting.ledger.rows import LOST, UNWRITTEN

_EVERY = (0, 1)
_BILL = (
    "SELECT runs.usd_per_hour, SUM(periods.billed_s), SUM(periods.busy_s), SUM(periods.host_s), SUM(periods.idle_s), "
    "SUM(settled_busy), SUM(settled_host), SUM(settled_idle), "
    f"SUM(CASE WHEN runs.ending = '{DOWN}' THEN periods.idle_s ELSE 0 END) FROM ("
    "SELECT run_id, billed_s, busy_s, host_s, idle_s, settled_busy_s AS settled_busy, settled_host_s AS settled_host, "
    "settled_idle_s AS settled_idle FROM periods WHERE ended_at > ? AND ended_at <= ?"
    ") AS periods JOIN runs ON runs.run_id = periods.run_id WHERE runs.simulated IN (?, ?) GROUP BY runs.usd_per_hour"
)
_ROWS = (
    "SELECT requests.outcome, COUNT(*), SUM(CAST(requests.allocation_usd AS NUMERIC)), "
    "SUM(CAST(requests.usage_usd AS NUMERIC)) FROM periods "
    "JOIN requests ON requests.run_id = periods.run_id AND requests.period = periods.seq "
    "JOIN runs ON runs.run_id = periods.run_id "
    "WHERE periods.ended_at > ? AND periods.ended_at <= ? AND runs.simulated IN (?, ?) GROUP BY requests.outcome"
)


@dataclass(frozen=True, slots=True)
class Statement:
    """US dollars; seconds of the machine. `billed_usd` is the sum of the parts below it, and `difference_usd` what is
    missing to that: nothing, unless rows were taken out of the ledger."""

    since: float
    until: float
    billed_s: float
    busy_s: float
    host_s: float
    idle_s: float
    # The time between two runs, as far as it is billed: no gateway was there to use the machine.
    down_s: float
    requests: int
    billed_usd: Decimal
    # Whole, abstained, failed and cancelled ones; of which the usage cost.
    requests_usd: Decimal
    requests_usage_usd: Decimal
    # What nobody can be asked for: requests that a kill took, and rows that could not be written.
    lost_usd: Decimal
    # What running requests had used at the end, less what they had at the beginning.
    in_progress_usd: Decimal
    # Idle time that no request had drawn at the end, less the same at the beginning.
    idle_not_drawn_usd: Decimal
    down_usd: Decimal

    @property
    def difference_usd(self) -> Decimal:
        """Should be nothing but rounding."""
        parts = self.requests_usd + self.lost_usd + self.in_progress_usd + self.idle_not_drawn_usd + self.down_usd
        return self.billed_usd - parts


def statement(ledger: Database, since: float, until: float, *, simulated: bool | None = None) -> Statement:
    """Of the periods that end after `since` and not after `until` (seconds since 1970), at every gateway that writes
    into this ledger; `simulated`: only of simulated engines, or only of real ones. Raises LedgerError."""
    bounds = (since, until, *(_EVERY if simulated is None else (int(simulated), int(simulated))))
    billed_s = busy_s = host_s = idle_s = down_s = 0.0
    billed = in_progress = not_drawn = down = Decimal(0)
    for usd_per_hour, *seconds in ledger.rows(_BILL, bounds):
        run_billed_s, run_busy_s, run_host_s, run_idle_s, busy, host, idle, run_down_s = seconds
        billed_s, busy_s = billed_s + run_billed_s, busy_s + run_busy_s
        host_s, idle_s, down_s = host_s + run_host_s, idle_s + run_idle_s - run_down_s, down_s + run_down_s
        usd_per_s = Decimal(usd_per_hour) / 3600
        billed += Decimal(run_billed_s) * usd_per_s
        in_progress += Decimal(run_busy_s - busy + run_host_s - host) * usd_per_s
        not_drawn += Decimal(run_idle_s - run_down_s - idle) * usd_per_s
        down += Decimal(run_down_s) * usd_per_s
    requests, spent, used, lost = 0, Decimal(0), Decimal(0), Decimal(0)
    for outcome, count, allocation, usage in ledger.rows(_ROWS, bounds):
        if outcome in (LOST, UNWRITTEN):
            lost += Decimal(str(allocation))
        else:
            requests += count
            spent += Decimal(str(allocation))
            used += Decimal(str(usage))
    return Statement(
        since=since,
        until=until,
        billed_s=billed_s,
        busy_s=busy_s,
        host_s=host_s,
        idle_s=idle_s,
        down_s=down_s,
        requests=requests,
        billed_usd=billed,
        requests_usd=spent,
        requests_usage_usd=used,
        lost_usd=lost,
        in_progress_usd=in_progress,
        idle_not_drawn_usd=not_drawn,
        down_usd=down,
    )
