"""The catalogue of files, vector stores and fine-tuning jobs: `files.db` of the home, or shared in PostgreSQL; off the
loop, in threads of its own, so that a database that hangs holds up nobody else."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from serving.database import protocol
from serving.database.protocol import Row, Schema, Statement

T = TypeVar("T")
_THREADS = 4
_AGAIN_S = 0.05
SCHEMA = Schema(
    """
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
""",
    # Where several gateways share the catalogue, they share the bytes, too.
    shared="""
CREATE TABLE IF NOT EXISTS file_parts (
    file_id TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE, part BIGINT NOT NULL, bytes BYTEA NOT NULL,
    PRIMARY KEY (file_id, part)
);
ALTER TABLE file_parts ALTER COLUMN bytes SET STORAGE EXTERNAL;
""",
)


class Database:
    """Any task may use it. Calls raise what those of the database below do."""

    def __init__(self, database: protocol.Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="catalogue")

    @property
    def shared(self) -> bool:
        """Whether other gateways write here, too."""
        return self._database.shared

    async def rows(self, sql: str, *values: Any) -> list[Row]:
        """All rows of a query."""
        return await self._run(partial(self._database.rows, sql, values))

    async def row(self, sql: str, *values: Any) -> Row | None:
        """The first row of a query, if there is one."""
        found = await self.rows(sql, *values)
        return found[0] if found else None

    async def write(self, *statements: Statement) -> int:
        """Runs the statements as one transaction; returns how many rows the last one changed. Raises Contradiction."""
        return await self.write_all(statements)

    async def write_all(self, statements: Iterable[Statement]) -> int:
        """The same; see protocol.Database."""
        return await self._run(partial(self._database.write, statements))

    async def take(self, name: str) -> bool:
        """Hold this turn until `release`; False while another task or gateway has it."""
        return await self._run(partial(self._database.take, name))

    async def release(self, name: str) -> None:
        """Hold it no longer."""
        await self._run(partial(self._database.release, name))

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Hold this turn inside, once whoever has it is done."""
        while not await self._taken(name):  # noqa: ASYNC110  # it may be another gateway's
            await asyncio.sleep(_AGAIN_S)
        try:
            yield
        finally:
            await self.release(name)

    async def _taken(self, name: str) -> bool:
        taking = asyncio.create_task(self.take(name))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            if await taking:  # whoever wanted it is gone
                await self.release(name)
            raise

    def close(self) -> None:
        """Close a file of our own."""
        self._threads.shutdown(wait=not self._database.shared)
        if not self._database.shared:
            self._database.close()

    async def _run(self, call: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)


def any_of(values: Sequence[Any]) -> str:
    """`(?, ?, ?)` for an IN list."""
    return f"({protocol.marks(values)})"
