"""The history of a ledger.db, taken into the database that `database_url` names, so that moving there loses nothing.

Run by run, each once: a run that is there already is left alone, one that was broken off in the middle is taken anew.
The row of the run itself comes last; until then no statement sees what belongs to it. The fleet's changes are no run's:
those that are not there yet are taken. The file stays as it is.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from serving.accounting.ledger.database import Database, LedgerError, Row, Step, Unwritten
from serving.accounting.ledger.recovery import settle_dead_runs
from serving.accounting.ledger.scaling import changes, note
from serving.accounting.ledger.sqlite import SqliteDatabase

logger = logging.getLogger("breakeven.ledger")
_AT_ONCE = 5000
_EVER = 1e18
_OF_RUN = "FROM requests WHERE run_id = ?"
# What an import that was broken off left of a run.
_FORGET = (
    f"DELETE FROM routes WHERE request_id IN (SELECT request_id {_OF_RUN})",
    f"DELETE {_OF_RUN}",
    "DELETE FROM periods WHERE run_id = ?",
)
_ENDED = "SELECT run_id FROM runs WHERE ending IS NOT NULL AND seen_at >= ? ORDER BY started_at"
_COLUMNS = "SELECT name FROM pragma_table_info(?) ORDER BY cid"


def import_file(path: Path, into: Database, since: float = 0.0) -> int:
    """How many requests of the ledger in `path`, if there is one, were taken over: of the runs that ended after
    `since` (seconds since 1970) and were not in `into` yet. Says so in one line. Raises LedgerError."""
    if not path.is_file():
        return 0
    old = SqliteDatabase(path)
    try:
        for said in settle_dead_runs(old):
            logger.warning("%s", said)
        there = {run_id for (run_id,) in into.rows("SELECT run_id FROM runs")}
        runs = [run_id for (run_id,) in old.rows(_ENDED, (since,)) if run_id not in there]
        count = sum(_take(old, into, run_id) for run_id in runs)
        for change in sorted(
            set(changes(old, since, _EVER)) - set(changes(into, since, _EVER)), key=lambda one: one.at
        ):
            note(into, change)
    except Unwritten as error:
        raise LedgerError(
            f"the ledger {path} could not be taken into {into.place}: {error}. Start again to go on, or move {path} "
            "away to begin without its history"
        ) from error
    finally:
        old.close()
    if runs:
        logger.warning("ledger: %d runs with %d requests of %s are in %s now", len(runs), count, path, into.place)
    return count


def _take(old: SqliteDatabase, into: Database, run_id: str) -> int:
    into.write([(sql, [(run_id,)]) for sql in _FORGET])
    count = 0
    for rows in _pieces(old, "requests", "run_id = ?", run_id):
        count += len(rows)
        into.write([_insert(old, "requests", rows)])
    for table, where in (
        ("routes", f"request_id IN (SELECT request_id {_OF_RUN})"),
        ("periods", "run_id = ?"),
        ("runs", "run_id = ?"),
    ):
        for rows in _pieces(old, table, where, run_id):
            into.write([_insert(old, table, rows)])
    return count


def _pieces(old: SqliteDatabase, table: str, where: str, run_id: str) -> Iterator[Sequence[Row]]:
    """The rows of a run without their row ids."""
    # Names are our own tables' and columns'; every value is bound.
    sql = f"SELECT rowid, {_names(old, table)} FROM {table} WHERE {where} AND rowid > ? "
    sql += f"ORDER BY rowid LIMIT {_AT_ONCE}"
    last = -1
    while rows := old.rows(sql, (run_id, last)):
        last = rows[-1][0]
        yield [row[1:] for row in rows]


def _insert(old: SqliteDatabase, table: str, rows: Sequence[Row]) -> Step:
    marks = ", ".join("?" * len(rows[0]))
    return f"INSERT INTO {table} ({_names(old, table)}) VALUES ({marks})", rows


def _names(old: SqliteDatabase, table: str) -> str:
    return ", ".join(name for (name,) in old.rows(_COLUMNS, (table,)))
