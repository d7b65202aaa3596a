"""Records in PostgreSQL, which several gateways share.

A turn is an advisory lock of one connection: a gateway that dies gives it back, and one that loses the connection may
find that somebody else has begun, so what is done in a turn must bear being done twice.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any

import psycopg
from psycopg.rows import dict_row

from retrieval.errors import StoreUnreachable
from retrieval.postgres_client import OPTIONS, SETTING, first_line, open_pool, server_name
from serving.database.protocol import Contradiction, Reader, Row, Schema, Statement, check_text
from serving.errors import StoreUnavailable

_LOCK = 7_239_817_125_331_004  # of the tables' making; the budgets' has the number before it
_SESSION = "SET search_path TO breakeven_gateway; SET statement_timeout TO '20s'; SET jit TO off"
_MOST_CONNECTIONS = 8
_WAIT_S = 3.0  # for a connection
_TRIES = 8
_AGAIN = ("40001", "40P01")  # SQLSTATE: could not serialize; deadlock. Nothing was kept.
# A prepared `SELECT *` fails for good once a newer gateway has added a column.
_CLIENT: Mapping[str, Any] = {"row_factory": dict_row, "prepare_threshold": None}
Connection = psycopg.Connection[dict[str, Any]]


class PostgresDatabase:
    """Schema `breakeven_gateway`. Raises StoreUnreachable if nothing answers at `url`."""

    shared = True

    def __init__(self, url: str) -> None:
        self._url, self._turn, self._held = url, threading.Lock(), set[str]()
        self._holder: Connection | None = None
        self._readers: list[_Reader] = []
        self._name = server_name(url)
        try:
            with self._connect() as connection, connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                if connection.execute("SELECT to_regnamespace('breakeven_gateway') AS it").fetchone() == {"it": None}:
                    connection.execute("CREATE SCHEMA breakeven_gateway")
        except psycopg.errors.InsufficientPrivilege as error:
            raise StoreUnavailable(
                f"{self._name} ({SETTING}): {first_line(error)}; the role must own its database, or somebody who "
                "does must run CREATE SCHEMA breakeven_gateway AUTHORIZATION that role"
            ) from error
        except psycopg.Error as error:
            raise StoreUnreachable(self._name, SETTING, first_line(error)) from error
        self._pool = open_pool(url, _SESSION, _MOST_CONNECTIONS, _WAIT_S, **_CLIENT)

    def prepare(self, schema: Schema) -> None:
        """Make these tables if they are not there. Raises StoreUnavailable."""
        columns = "".join(
            f"ALTER TABLE {table} ADD COLUMN IF NOT EXISTS {name} {kind};" for table, name, kind in schema.later
        )
        wide = f"{schema.tables}{columns}".replace(" REAL", " DOUBLE PRECISION").replace(" INTEGER", " BIGINT")
        with self._connected() as connection, connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            connection.execute((wide.replace(" BLOB", " BYTEA") + schema.shared).encode())

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """See Database."""
        check_text(values)
        with self._connected() as connection:
            return list(connection.execute(_theirs(sql), values).fetchall())

    def write(self, statements: Iterable[Statement]) -> int:
        """See Database. Gateways that hold each other up are taken apart, and the one that lost tries again."""
        again = isinstance(statements, Sequence)
        for left in reversed(range(_TRIES if again else 1)):
            with suppress(_Again), self._connected(last=left == 0) as connection, connection.transaction():
                changed = 0
                for sql, values in statements:
                    check_text(values)
                    changed = connection.execute(_theirs(sql), values).rowcount
                return changed
        raise AssertionError("the last try returns or raises")

    def apart(self) -> Reader:
        """See Database. A connection of its own, because those of the pool may all be at work for long."""
        self._readers.append(_Reader(self._connect, self._said))
        return self._readers[-1]

    def take(self, name: str) -> bool:
        """See Database."""
        with self._turn, self._said():
            if name in self._held:
                return False
            try:
                taken = self._lock(name)
            except psycopg.Error:  # the connection was lost, and with it every turn
                self._disconnect()
                taken = self._lock(name)
            if taken:
                self._held.add(name)
            return taken

    def release(self, name: str) -> None:
        """See Database."""
        with self._turn:
            self._held.discard(name)
            if self._holder is not None:
                try:
                    self._holder.execute("SELECT pg_advisory_unlock(hashtextextended(%s, %s))", (name, _LOCK))
                except psycopg.Error:
                    self._disconnect()

    def close(self) -> None:
        """See Database."""
        with self._turn:
            self._held.clear()
            self._disconnect()
        for reader in self._readers:
            reader.close()
        self._pool.close()

    def _connect(self) -> Connection:
        return psycopg.connect(self._url, **OPTIONS, **_CLIENT)

    def _lock(self, name: str) -> bool:
        if self._holder is None:
            self._holder = self._connect()
            for each in self._held:
                self._try(each)
        return self._try(name)

    def _try(self, name: str) -> bool:
        assert self._holder is not None
        found = self._holder.execute(
            "SELECT pg_try_advisory_lock(hashtextextended(%s, %s)) AS taken", (name, _LOCK)
        ).fetchone()
        return found is not None and bool(found["taken"])

    def _disconnect(self) -> None:
        if self._holder is not None:
            with suppress(psycopg.Error):
                self._holder.close()
            self._holder = None

    @contextmanager
    def _connected(self, *, last: bool = True) -> Iterator[Connection]:
        with self._said(last=last), self._pool.connection() as connection:
            yield connection

    @contextmanager
    def _said(self, *, last: bool = True) -> Iterator[None]:
        try:
            yield
        except psycopg.IntegrityError as error:
            raise Contradiction(first_line(error)) from error
        except psycopg.Error as error:
            if not last and error.sqlstate in _AGAIN:
                raise _Again from error
            raise StoreUnavailable(
                f"{self._name} ({SETTING}) cannot be used: {first_line(error)}; try again shortly", retry_after_s=1
            ) from error


class _Reader:
    """Connects when it is first asked, and again after its connection was lost."""

    def __init__(self, connect: Callable[[], Connection], said: Callable[[], AbstractContextManager[None]]) -> None:
        self._connect, self._said = connect, said
        self._connection: Connection | None = None

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """See Database."""
        check_text(values)
        with self._said():
            if self._connection is not None:
                try:
                    return list(self._connection.execute(_theirs(sql), values).fetchall())
                except psycopg.OperationalError:
                    if not self._connection.closed:
                        raise
            connection = self._connect()
            connection.execute(_SESSION)  # else it finds no table, for as long as it lives
            self._connection = connection
            return list(connection.execute(_theirs(sql), values).fetchall())

    def close(self) -> None:
        """Whoever reads now gets an error."""
        if self._connection is not None:
            with suppress(psycopg.Error):
                self._connection.close()


class _Again(Exception):
    pass


def _theirs(sql: str) -> bytes:
    return sql.replace("?", "%s").encode()
