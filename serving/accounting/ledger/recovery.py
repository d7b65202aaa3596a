"""What is done about runs whose process was killed: what they still owed is settled, so that the sums hold again.

Each run notes, twice a second, the requests that run and what they have used. If it is killed, the next start makes
rows of them, with the outcome `lost`; what it cannot give to anyone (requests that had ended but were not written) is
one row more, of nobody's.
"""

import time
from collections.abc import Iterator
from decimal import Decimal

import orjson

from serving.accounting.cost import GpuPrice, money, seconds_usd
from serving.accounting.ledger.database import Database, Row, Step, Unwritten
from serving.accounting.ledger.rows import LOST, Columns, remainder_row, step, unfinished_row
from serving.accounting.record import Share, Unfinished

# Undoes it, for a run that turns out to be alive.
RELEASE_LOST = f"DELETE FROM requests WHERE run_id = ? AND outcome = '{LOST}'"  # a constant of ours
_OPEN = (
    "SELECT run_id, seen_at, usd_per_hour, price_id, running, busy_s - settled_busy_s, host_s - settled_host_s, "
    "idle_s - settled_idle_s - unallocated_idle_s, ending FROM runs WHERE (ending IS NULL OR ending = 'old')"
)
_LAST = "SELECT MAX(seq) FROM periods WHERE run_id = ?"
_SETTLE = (
    "UPDATE periods SET settled_busy_s = settled_busy_s + ?, settled_host_s = settled_host_s + ?, "
    "settled_idle_s = settled_idle_s + ? WHERE run_id = ? AND seq = ?"
)
_END = "UPDATE runs SET ending = ?, ended_at = seen_at WHERE run_id = ?"
# Below this a balance is what floating point leaves of nothing.
_NOTHING_S = 1e-6


def settle_dead_runs(database: Database) -> Iterator[str]:
    """What to tell the operator, a line for each run that was killed. Raises LedgerError."""
    for run_id, *_ in database.rows(_OPEN):
        if not database.take(run_id):
            continue  # it lives
        try:
            # Again, under the lock: another start may have settled it in between.
            for row in database.rows(f"{_OPEN} AND run_id = ?", (run_id,)):
                if said := _settle(database, row):
                    yield said
        finally:
            database.release(run_id)


def _settle(database: Database, run: Row) -> str | None:
    run_id, seen_at, usd_per_hour, price_id, running, busy_s, host_s, idle_s, ending = run
    price = GpuPrice(price_id, (), Decimal(usd_per_hour), "", "", "configured")
    # Idle time that nobody drew stays what it is; what was drawn by requests whose records are gone is owed.
    owed = Share(busy_s, idle_s, host_s)
    lost = [Unfinished(**each) for each in orjson.loads(running)]
    steps: list[Step] = [(_END, [("unknown" if ending else "killed", run_id)])]
    last = database.rows(_LAST, (run_id,))[0][0]
    if last is not None:
        steps += step("requests", _rows(lost, owed, seen_at, (run_id, last), price))
        steps.append((_SETTLE, [(owed.busy_s, owed.host_s, owed.idle_s, run_id, last)]))
    try:
        database.write(steps)
    except Unwritten as error:
        return f"the ledger's run {run_id[:12]}, which was killed, could not be settled: {error}"
    if ending:
        return None  # from before runs said how they ended
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seen_at))
    usd = money(max(Decimal(0), seconds_usd(owed.busy_s + owed.host_s + owed.idle_s, price)))
    return (
        f"the gateway that wrote into the ledger until {when} was killed: {len(lost)} requests that ran (${usd}) are "
        "entered as lost, and requests that ended in its last second may be missing"
    )


def _rows(lost: list[Unfinished], owed: Share, at: float, where: tuple[str, int], price: GpuPrice) -> list[Columns]:
    rows = [unfinished_row(request, LOST, at, where, price) for request in lost]
    busy_s = owed.busy_s - sum(request.busy_s for request in lost)
    host_s = owed.host_s - sum(request.host_s for request in lost)
    if max(abs(busy_s), abs(host_s), abs(owed.idle_s)) > _NOTHING_S:
        rows.append(remainder_row(LOST, Share(busy_s, owed.idle_s, host_s), at, where, price))
    return rows
