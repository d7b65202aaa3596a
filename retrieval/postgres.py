"""PostgreSQL, where several gateways share a catalogue and a lexical index: their tables, and sessions with locks.

Locks are the database's own and belong to a connection: a process that dies gives them back, and one whose connection
was lost can no longer finish what it held the lock for.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from retrieval.errors import StoreFailed, StoreUnreachable
from retrieval.postgres_client import OPTIONS, SETTING, first_line, open_pool, server_name

if TYPE_CHECKING:
    import psycopg

_MOST_CONNECTIONS = 24
_UNREACHABLE = ("08", "57P", "3D", "28")  # SQLSTATE: no connection; the server ends; no such database; wrong password
_WAIT_S = 6.0  # for a connection
# No JIT: compiling takes longer than any of our queries. The timeout also bounds the wait for another's lock.
_SESSION = "SET search_path TO breakeven, public; SET jit TO off; SET statement_timeout TO '120s'"
_SCHEMA_VERSION = 1
_SCHEMA_LOCK = 7_239_817_125_331_001
_SCHEMA = """
CREATE EXTENSION IF NOT EXISTS btree_gin;
CREATE TABLE schema_version (version INTEGER NOT NULL);
CREATE TABLE bases (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant TEXT NOT NULL, knowledge TEXT NOT NULL,
    fingerprint TEXT NOT NULL, collection TEXT, dropping BOOLEAN NOT NULL DEFAULT false,
    generation BIGINT NOT NULL DEFAULT 0, sequence BIGINT NOT NULL DEFAULT 0,
    passages BIGINT NOT NULL DEFAULT 0, words BIGINT NOT NULL DEFAULT 0, UNIQUE (tenant, knowledge)
);
CREATE VIEW in_use AS SELECT * FROM bases WHERE collection IS NOT NULL AND NOT dropping;
CREATE TABLE documents (
    base BIGINT NOT NULL REFERENCES bases ON DELETE CASCADE, source TEXT NOT NULL, title TEXT NOT NULL,
    sha256 TEXT NOT NULL, digest TEXT NOT NULL, chunks INTEGER NOT NULL, groups TEXT[] NOT NULL,
    attributes TEXT NOT NULL, version TEXT NOT NULL, state TEXT NOT NULL, changed BIGINT NOT NULL,
    PRIMARY KEY (base, source)
);
CREATE INDEX documents_changed ON documents (base, changed);
CREATE TABLE leftovers (
    base BIGINT NOT NULL REFERENCES bases ON DELETE CASCADE, version TEXT NOT NULL, source TEXT NOT NULL,
    chunks INTEGER NOT NULL, PRIMARY KEY (base, version)
);
CREATE TABLE passages (
    base BIGINT NOT NULL REFERENCES bases ON DELETE CASCADE, version TEXT NOT NULL, id TEXT NOT NULL,
    length INTEGER NOT NULL, words TSVECTOR NOT NULL, PRIMARY KEY (base, id)
);
CREATE INDEX passages_version ON passages (base, version);
CREATE INDEX passages_words ON passages USING GIN (base, words) WITH (fastupdate = off);
CREATE TABLE terms (
    base BIGINT NOT NULL REFERENCES bases ON DELETE CASCADE, term TEXT NOT NULL, passages BIGINT NOT NULL,
    PRIMARY KEY (base, term)
);
CREATE TABLE measurements (
    kind TEXT NOT NULL, tenant TEXT NOT NULL, knowledge TEXT NOT NULL, measurement TEXT NOT NULL,
    PRIMARY KEY (kind, tenant, knowledge)
);
"""

Row = tuple[Any, ...]
Values = Sequence[Any] | Mapping[str, Any]


class Session:
    """One connection. Each statement is its own transaction, outside of `transaction()`."""

    def __init__(self, connection: "psycopg.Connection[Row]") -> None:
        self._connection = connection

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """What a statement returns; nothing if it returns no rows."""
        with _mapped_errors():
            cursor = self._connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def changed(self, sql: str, values: Values = ()) -> int:
        """How many rows a statement changed."""
        with _mapped_errors():
            return self._connection.execute(sql, values).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the statements inside, or none."""
        with _mapped_errors(), self._connection.transaction():
            yield

    def lock(self, key: int, *, shared: bool = False) -> None:
        """Waits for a lock, which lasts until unlock() or the end of the session."""
        self.rows(f"SELECT pg_advisory_lock{'_shared' if shared else ''}(%s)", (key,))

    def try_lock(self, key: int) -> bool:
        """Takes a lock if nobody holds it."""
        return bool(self.rows("SELECT pg_try_advisory_lock(%s)", (key,))[0][0])

    def unlock(self, key: int, *, shared: bool = False) -> None:
        """Gives a lock back."""
        self.rows(f"SELECT pg_advisory_unlock{'_shared' if shared else ''}(%s)", (key,))

    def unlock_all(self) -> None:
        """Gives all locks back. A lost connection has none."""
        with suppress(StoreFailed, StoreUnreachable):
            self.rows("SELECT pg_advisory_unlock_all()")


class Postgres:
    """Thread-safe; makes its tables, in the schema `breakeven`, if they are not there.

    Raises StoreUnreachable, and StoreFailed if it may not make them."""

    def __init__(self, url: str) -> None:
        import psycopg

        self._server = server_name(url)
        with _mapped_errors(self._server), psycopg.connect(url, **OPTIONS) as connection:
            _prepare(connection)
        self._pool = open_pool(url, _SESSION, _MOST_CONNECTIONS, _WAIT_S)

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A connection of one's own. Raises StoreUnreachable."""
        with _mapped_errors(self._server):
            connection = self._pool.getconn()
        try:
            yield Session(connection)
        finally:
            self._pool.putconn(connection)

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """What one statement returns. Raises StoreFailed, StoreUnreachable."""
        with self.session() as session:
            return session.rows(sql, values)

    @contextmanager
    def transaction(self) -> Iterator[Session]:
        """All of the statements inside, or none. Raises StoreFailed, StoreUnreachable."""
        with self.session() as session, session.transaction():
            yield session

    def healthy(self) -> bool:
        """Whether the database answers."""
        try:
            self.rows("SELECT 1")
        except (StoreFailed, StoreUnreachable):
            return False
        return True

    def close(self) -> None:
        """Closes every connection."""
        self._pool.close()


def _prepare(connection: "psycopg.Connection[Row]") -> None:
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SCHEMA_LOCK,))
        if connection.execute("SELECT to_regnamespace('breakeven')").fetchone() == (None,):
            connection.execute("CREATE SCHEMA breakeven")
        connection.execute(_SESSION)
        if connection.execute("SELECT to_regclass('breakeven.schema_version')").fetchone() == (None,):
            connection.execute(_SCHEMA)
            connection.execute("INSERT INTO schema_version VALUES (%s)", (_SCHEMA_VERSION,))
        for (version,) in connection.execute("SELECT version FROM schema_version"):
            if version != _SCHEMA_VERSION:
                raise StoreFailed(f"the tables in PostgreSQL are of version {version}, ours are of {_SCHEMA_VERSION}")


@contextmanager
def _mapped_errors(server: str = "PostgreSQL") -> Iterator[None]:
    import psycopg
    from psycopg_pool import PoolTimeout

    try:
        yield
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreFailed(
            f"PostgreSQL: {first_line(error)}; the role must own its database, "
            "or somebody who does must run CREATE EXTENSION btree_gin and CREATE SCHEMA breakeven for it"
        ) from error
    except PoolTimeout as error:
        raise StoreUnreachable(server, SETTING, first_line(error)) from error
    except psycopg.Error as error:
        lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) and error.sqlstate is None
        if lost or (error.sqlstate or "").startswith(_UNREACHABLE):
            raise StoreUnreachable(server, SETTING, first_line(error)) from error
        raise StoreFailed(f"PostgreSQL: {first_line(error)}") from error
