"""The ledger in PostgreSQL, where several gateways write into one."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

import psycopg

from retrieval.postgres_client import OPTIONS, SETTING, first_line, server_name
from serving.accounting.ledger.database import LedgerError, Row, Step, Unwritten, Values
from serving.accounting.ledger.schema import VERSION, newer, statements

_SESSION = "SET search_path TO breakeven_ledger; SET statement_timeout TO '60s'; SET jit TO off"
_LOCK = 7_239_817_125_331_002  # of the tables' making; retrieval's has the number before it


class PostgresDatabase:
    """Makes its tables, in the schema `breakeven_ledger`, if they are not there. Raises LedgerError.

    A living process holds an advisory lock of its run, on the connection that it writes by.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._runs: set[str] = set()
        self._writer: psycopg.Connection[Row] | None = None
        with self._said(), self._connect() as connection:
            self._migrate(connection)

    @property
    def place(self) -> str:
        """See Database."""
        return server_name(self._url)

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """See Database."""
        with self._said(), self._connect() as connection:
            return connection.execute(_theirs(sql), values).fetchall()

    def write(self, steps: Iterable[Step]) -> None:
        """See Database."""
        try:
            connection = self._writing()
            with connection.transaction():
                for sql, values in steps:
                    if values:
                        connection.cursor().executemany(_theirs(sql), values)
        except psycopg.Error as error:
            self._disconnect()
            raise Unwritten(first_line(error)) from error

    def take(self, run_id: str) -> bool:
        """See Database. A lost connection loses the lock; the next write takes it again."""
        with self._said():
            taken = self._lock(self._writing(), run_id)
        if taken:
            self._runs.add(run_id)
        return taken

    def release(self, run_id: str) -> None:
        """See Database."""
        self._runs.discard(run_id)
        if self._writer is not None:
            with suppress(psycopg.Error):
                self._writer.execute("SELECT pg_advisory_unlock(%s)", (_key(run_id),))

    def close(self) -> None:
        """See Database."""
        self._runs.clear()
        self._disconnect()

    def _connect(self) -> "psycopg.Connection[Row]":
        connection = psycopg.connect(self._url, **OPTIONS)
        connection.execute(_SESSION)
        return connection

    def _writing(self) -> "psycopg.Connection[Row]":
        if self._writer is None:
            self._writer = self._connect()
            for run_id in self._runs:
                self._lock(self._writer, run_id)
        return self._writer

    def _lock(self, connection: "psycopg.Connection[Row]", run_id: str) -> bool:
        return bool(connection.execute("SELECT pg_try_advisory_lock(%s)", (_key(run_id),)).fetchall()[0][0])

    def _disconnect(self) -> None:
        if self._writer is not None:
            with suppress(psycopg.Error):
                self._writer.close()
            self._writer = None

    def _migrate(self, connection: "psycopg.Connection[Row]") -> None:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            connection.execute("CREATE SCHEMA IF NOT EXISTS breakeven_ledger")
            connection.execute("CREATE TABLE IF NOT EXISTS schema_version (version INTEGER NOT NULL)")
            found = connection.execute("SELECT version FROM schema_version").fetchone()
            version = int(found[0]) if found else 0
            if version > VERSION:
                raise LedgerError(newer(self.place, version))
            for statement in statements(version):
                # SQLite's numbers have eight bytes, these of PostgreSQL four: too few for a time or a month's tokens.
                wide = statement.replace(" REAL", " DOUBLE PRECISION").replace(" INTEGER", " BIGINT")
                connection.execute(wide.encode())
            if version < VERSION:
                connection.execute("DELETE FROM schema_version")
                connection.execute("INSERT INTO schema_version VALUES (%s)", (VERSION,))

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise LedgerError(
                f"the ledger in {self.place} ({SETTING}) cannot be used: {first_line(error)}; start the database, "
                "or let its role create schemas"
            ) from error


def _theirs(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()


def _key(run_id: str) -> int:
    return int(run_id[:15], 16)
