"""The time between two runs of a gateway: the machine is rented while the gateway restarts.

A gateway that starts bills the time since the last one was seen, unless another one lives, or it is longer than the
operator would keep an idle machine. That time is a run of its own, with the ending `down`: nobody used it, and no
request draws from it. Its id is made from the run before it, so that it is billed once, whoever starts.
"""

import uuid
from collections.abc import Iterator

from serving.accounting.cost import GpuPrice
from serving.accounting.ledger.books import QUIET_PERIOD_S
from serving.accounting.ledger.database import Database, LedgerError, Step, Unwritten
from serving.accounting.ledger.rows import Columns, Run, period_row, run_row, step
from serving.accounting.meter import Bill

DOWN = "down"
_LIVING = "SELECT COUNT(*) FROM runs WHERE ending IS NULL AND simulated = ?"
_LAST = "SELECT run_id, seen_at FROM runs WHERE simulated = ? ORDER BY seen_at DESC LIMIT 1"
_FORGET = "DELETE FROM periods WHERE run_id = ?"
_SINCE = f"FROM runs WHERE ending = '{DOWN}' AND started_at >= ? AND simulated = ?"  # ours
_IDS = uuid.UUID("6b6f3a52-3f0e-4c0a-9d7e-5d9b1d0c7a11")


def bill_gap(
    database: Database, price: GpuPrice, started_at: float, longest_s: float, accelerators: float, *, simulated: bool
) -> float:
    """Accelerator seconds from the last run's end to `started_at` (seconds since 1970), which are in the ledger then;
    0 if they are not to be billed. Call it once the dead runs are settled. Raises LedgerError."""
    if database.rows(_LIVING, (int(simulated),))[0][0]:
        return 0.0
    last = database.rows(_LAST, (int(simulated),))
    gap_s = started_at - last[0][1] if last else 0.0
    if not 0 < gap_s <= longest_s:
        return 0.0
    run_id = uuid.uuid5(_IDS, last[0][0]).hex
    bill = Bill(gap_s * accelerators, 0.0, gap_s * accelerators, gap_s * accelerators)
    run = run_row(Run(run_id, started_at - gap_s, started_at, DOWN, simulated), price, bill)
    periods = list(_periods(run_id, started_at - gap_s, gap_s, accelerators))
    steps: list[Step] = [(_FORGET, [(run_id,)]), *step("periods", periods), *step("runs", [run], key=("run_id",))]
    try:
        database.write(steps)
    except Unwritten as error:
        raise LedgerError(f"cannot write the ledger in {database.place}: {error}") from error
    return bill.billed_s


def release_gaps(since: float, *, simulated: bool) -> list[Step]:
    """What takes gaps out of the ledger that began at `since` (seconds since 1970) or later: somebody lived then."""
    where = [(since, int(simulated))]
    return [(f"DELETE FROM periods WHERE run_id IN (SELECT run_id {_SINCE})", where), (f"DELETE {_SINCE}", where)]


def _periods(run_id: str, began_at: float, gap_s: float, accelerators: float) -> Iterator[Columns]:
    """In pieces, so that a window's edge is never far from where it was asked for."""
    seq, done_s = 0, 0.0
    while done_s < gap_s:
        piece_s = min(QUIET_PERIOD_S, gap_s - done_s)
        idle_s = piece_s * accelerators
        bill = Bill(idle_s, 0.0, idle_s, (done_s + piece_s) * accelerators)
        yield period_row(run_id, seq, (began_at + done_s, began_at + done_s + piece_s), bill)
        seq, done_s = seq + 1, done_s + piece_s
