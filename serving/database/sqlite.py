"""Records in a SQLite file, for one gateway and the commands beside it."""

import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serving.database.protocol import Contradiction, Reader, Row, Schema, Statement, check_text
from serving.errors import StoreUnavailable

_WAIT_S = 30


class SqliteDatabase:
    """Makes the file and its tables, readable for its owner only, if they are not there."""

    shared = False

    def __init__(self, path: Path, schema: Schema) -> None:
        self._path, self._lock, self._held = path, threading.Lock(), set[str]()
        # Reads have a connection of their own: a write may wait for another process, and nobody should for that.
        self._reading = threading.Lock()
        with self._said():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, check_same_thread=False, timeout=_WAIT_S)
            self._connection.execute("PRAGMA journal_mode=WAL")
            # What was acknowledged is kept, whatever happens to the machine.
            self._connection.execute("PRAGMA synchronous=FULL")
            self._connection.execute("PRAGMA foreign_keys=ON")
            self._connection.executescript(schema.tables)
            self._add(schema.later)
            path.chmod(0o600)
            self._reader = sqlite3.connect(path, check_same_thread=False, timeout=_WAIT_S)
            self._reader.row_factory = sqlite3.Row

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """See Database."""
        check_text(values)
        with self._reading, self._said():
            return [dict(row) for row in self._reader.execute(sql, values)]

    def write(self, statements: Iterable[Statement]) -> int:
        """See Database."""
        changed = 0
        with self._lock, self._said(), self._connection:
            for sql, values in statements:
                check_text(values)
                changed = self._connection.execute(sql, values).rowcount
        return changed

    def apart(self) -> Reader:
        """See Database. A read here waits for other reads only, and they are short."""
        return self

    def take(self, name: str) -> bool:
        """See Database. One process has the file's gateway, so it is a matter among its tasks."""
        with self._lock:
            free = name not in self._held
            self._held.add(name)
        return free

    def release(self, name: str) -> None:
        """See Database."""
        with self._lock:
            self._held.discard(name)

    def close(self) -> None:
        """See Database."""
        with self._lock, self._reading:
            self._reader.close()
            self._connection.close()

    def _add(self, columns: Iterable[tuple[str, str, str]]) -> None:
        with self._connection as database:
            # IMMEDIATE: two processes that start together do not both add one.
            database.execute("BEGIN IMMEDIATE")
            for table, column, kind in columns:
                if not any(each[1] == column for each in database.execute(f"PRAGMA table_info({table})")):
                    database.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError as error:
            raise Contradiction(str(error)) from error
        except (sqlite3.Error, OSError) as error:
            raise StoreUnavailable(
                f"the gateway's {self._path.name} cannot be used: {error}; check free disk space and permissions"
            ) from error
