"""The catalogue of files, vector stores and fine-tuning jobs: one SQLite file, a transaction a write, off the loop."""

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
Row = sqlite3.Row
Statement = tuple[str, Sequence[Any]]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, filename TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL,
    created_at REAL NOT NULL, expires_at REAL
);
CREATE INDEX IF NOT EXISTS files_of_tenant ON files (tenant, created_at);
CREATE TABLE IF NOT EXISTS stores (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, knowledge TEXT NOT NULL, name TEXT NOT NULL, description TEXT,
    metadata TEXT NOT NULL, created_at REAL NOT NULL, last_active_at REAL NOT NULL, expires_days INTEGER,
    expired INTEGER NOT NULL DEFAULT 0, UNIQUE (tenant, knowledge)
);
CREATE TABLE IF NOT EXISTS attachments (
    store_id TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE, file_id TEXT NOT NULL, source TEXT NOT NULL,
    attempt TEXT NOT NULL, created_at REAL NOT NULL, status TEXT NOT NULL, error_code TEXT, error_message TEXT,
    attributes TEXT NOT NULL, groups TEXT NOT NULL, chunking TEXT, PRIMARY KEY (store_id, file_id)
);
CREATE INDEX IF NOT EXISTS waiting ON attachments (status) WHERE status = 'in_progress';
CREATE INDEX IF NOT EXISTS attachments_of_file ON attachments (file_id);
CREATE TABLE IF NOT EXISTS tuning_jobs (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, wanted TEXT NOT NULL, state TEXT NOT NULL, created_at REAL NOT NULL,
    finished_at REAL, version TEXT, error TEXT, deaths INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS batches (
    id TEXT PRIMARY KEY, store_id TEXT NOT NULL REFERENCES stores (id) ON DELETE CASCADE, created_at REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS batch_files (
    batch_id TEXT NOT NULL REFERENCES batches (id) ON DELETE CASCADE, file_id TEXT NOT NULL,
    PRIMARY KEY (batch_id, file_id)
);
"""


class Database:
    """Any task may use it; each call runs in a thread of the loop's pool."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(path, check_same_thread=False, timeout=30)
        self._connection.row_factory = sqlite3.Row
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA foreign_keys=ON")
        self._connection.executescript(_SCHEMA)
        path.chmod(0o600)

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        """All rows of a query."""
        return await asyncio.to_thread(self._rows, sql, values)

    async def row(self, sql: str, *values: Any) -> Row | None:
        """The first row of a query, if there is one."""
        found = await self.rows(sql, *values)
        return found[0] if found else None

    async def write(self, *statements: Statement) -> int:
        """Runs the statements as one transaction; returns how many rows the last one changed."""
        return await asyncio.to_thread(self._write, statements)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def _rows(self, sql: str, values: Sequence[Any]) -> list[Row]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def _write(self, statements: Sequence[Statement]) -> int:
        changed = 0
        with self._lock, self._connection:
            for sql, values in statements:
                changed = self._connection.execute(sql, values).rowcount
        return changed
