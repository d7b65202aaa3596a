"""The ledger in a SQLite file."""

import fcntl
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from serving.accounting.ledger.database import LedgerError, Row, Step, Unwritten, Values
from serving.accounting.ledger.schema import VERSION, newer, statements

_WAIT_S = 30


class SqliteDatabase:
    """`path` is made if it is not there. Raises LedgerError if it is no ledger of ours, and leaves it as it is.

    A living process holds a lock on a file of its run, which the operating system gives back whatever ends it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._runs = path.with_name(path.name + ".runs")
        self._held: dict[str, int] = {}
        self._writer: sqlite3.Connection | None = None
        with self._said():
            path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)) as database:
                database.execute("PRAGMA journal_mode=WAL")
                self._migrate(database)

    @property
    def place(self) -> str:
        """See Database."""
        return str(self._path)

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """See Database."""
        # Not mode=ro: where no writer is, only who may write can read the log that a killed one left.
        opened = partial(sqlite3.connect, f"file:{self._path}?mode=rw", uri=True, timeout=_WAIT_S)
        with self._said(), closing(opened()) as database:
            return database.execute(sql, values).fetchall()

    def write(self, steps: Iterable[Step]) -> None:
        """See Database."""
        try:
            if self._writer is None:
                self._writer = sqlite3.connect(self._path, timeout=_WAIT_S, check_same_thread=False)
            with self._writer as database:
                for sql, values in steps:
                    database.executemany(sql, values)
        except sqlite3.Error as error:
            raise Unwritten(str(error)) from error

    def take(self, run_id: str) -> bool:
        """See Database."""
        number = None
        try:
            self._runs.mkdir(exist_ok=True)
            number = os.open(self._runs / run_id, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if number is not None:
                os.close(number)
            if isinstance(error, BlockingIOError):
                return False
            raise LedgerError(f"cannot mark a run of the ledger in {self._runs}: {error}") from error
        self._held[run_id] = number
        return True

    def release(self, run_id: str) -> None:
        """See Database."""
        if (number := self._held.pop(run_id, None)) is not None:
            (self._runs / run_id).unlink(missing_ok=True)
            os.close(number)

    def close(self) -> None:
        """See Database."""
        for run_id in tuple(self._held):
            self.release(run_id)
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _migrate(self, database: sqlite3.Connection) -> None:
        # IMMEDIATE: two that start together do not both change the tables.
        database.execute("BEGIN IMMEDIATE")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        columns = {column[1] for column in database.execute("PRAGMA table_info(requests)")}
        if version > VERSION:
            raise LedgerError(newer(self.place, version))
        if columns and "rerank_s" not in columns:
            database.execute("ALTER TABLE requests ADD COLUMN rerank_s REAL")  # from before there were rerankers
        for statement in statements(version):
            database.execute(statement)
        database.execute(f"PRAGMA user_version = {VERSION}")
        database.execute("COMMIT")

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            advice = "if it is damaged, move it away (do not delete it) and start again: a new one is made"
            raise LedgerError(f"cannot use the ledger {self._path}: {error}; {advice}") from error
