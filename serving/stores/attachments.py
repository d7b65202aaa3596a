"""Files in vector stores: which file is in which store, how far its ingestion is, and what it can be filtered by."""

import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Literal

from serving.database.protocol import Contradiction, Row, Statement
from serving.errors import Conflict, NotFound
from serving.stores.bases import Base, turn_of
from serving.stores.database import Database, any_of
from serving.stores.fields import Attributes, Chunking
from serving.stores.files import StoredFile
from serving.stores.sources import source_of

Status = Literal["in_progress", "completed", "cancelled", "failed"]
STATUSES: tuple[Status, ...] = ("in_progress", "completed", "cancelled", "failed")


@dataclass(frozen=True, slots=True)
class Terms:
    """How files are attached: by what they can be filtered, who may read them, how they are cut (None: as usual)."""

    attributes: Attributes
    groups: frozenset[str]
    chunking: Chunking | None


@dataclass(frozen=True, slots=True)
class Attachment:
    """One file in one store. `attempt` changes whenever it is attached anew; `error` is OpenAI's (code, message)."""

    store_id: str
    file_id: str
    source: str
    attempt: str
    created_at: float
    status: Status
    error: tuple[str, str] | None
    terms: Terms


_USE = "UPDATE stores SET last_active_at = ? WHERE id = ? AND expired = 0"
_FINISH = (
    "UPDATE attachments SET status = ?, error_code = ?, error_message = ? "
    "WHERE store_id = ? AND file_id = ? AND attempt = ? AND status = 'in_progress' "
    "AND EXISTS (SELECT 1 FROM stores WHERE id = store_id AND expired = 0)"
)
_LOOKED_AT = 50  # more than gateways are at work at a time
_ATTACH = (
    "INSERT INTO attachments VALUES (?,?,?,?,?,'in_progress',NULL,NULL,?,?,?) "
    "ON CONFLICT (store_id, file_id) DO UPDATE SET source = excluded.source, attempt = excluded.attempt, "
    "status = excluded.status, error_code = NULL, error_message = NULL, "
    "attributes = excluded.attributes, groups = excluded.groups, chunking = excluded.chunking"
)


class Attachments:
    """The catalogue's side of it; the ingestion itself is the worker's."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, base: Base, files: Sequence[tuple[StoredFile, Terms]], now: float, batch: str | None = None
    ) -> None:
        """Files to be ingested, all or none. Attached again, a file gets the new terms. Raises Conflict, NotFound."""
        known = {each.file_id: each for each in await self.of_store(base.id)}
        # A store that is being removed cannot be closed between this and the end of the transaction.
        statements: list[Statement] = [(_USE, (now, base.id))]
        if batch is not None:
            statements.append(("INSERT INTO batches VALUES (?,?,?)", (batch, base.id, now)))
        for file, terms in files:
            old = known.get(file.id)
            if old is not None and old.status == "completed" and old.terms.chunking != terms.chunking:
                raise Conflict(f"{file.id} is already in this store, cut differently; delete it from the store first")
            values = (base.id, file.id, source_of(file.id, file.filename), secrets.token_hex(8))
            statements.append((_ATTACH, (*values, now, *_written(terms))))
            if batch is not None:
                statements.append(("INSERT INTO batch_files VALUES (?,?)", (batch, file.id)))
        gone = NotFound(f"the vector store {base.id!r} was deleted just now")
        try:
            await self._database.write(*statements)
        except Contradiction as error:
            raise gone from error
        if not await self.has_store(base.id):
            await self._database.write(("DELETE FROM attachments WHERE store_id = ?", (base.id,)))
            raise gone

    async def of_store(self, store_id: str) -> list[Attachment]:
        """All of a store, oldest first."""
        rows = await self._database.rows(
            "SELECT * FROM attachments WHERE store_id = ? ORDER BY created_at, file_id", store_id
        )
        return [_attachment(row) for row in rows]

    async def find(self, store_id: str, file_id: str) -> Attachment | None:
        """One of a store."""
        row = await self._database.row(
            "SELECT * FROM attachments WHERE store_id = ? AND file_id = ?", store_id, file_id
        )
        return None if row is None else _attachment(row)

    async def some(self, store_ids: Iterable[str], file_ids: Iterable[str]) -> Mapping[str, Attachment]:
        """By file id: those of `file_ids` that are in any of the stores."""
        stores, files = list(store_ids), list(file_ids)
        where = f"store_id IN {any_of(stores)} AND file_id IN {any_of(files)}"
        sql = f"SELECT * FROM attachments WHERE {where}"  # noqa: S608  # question marks
        rows = await self._database.rows(sql, *stores, *files)
        return {row["file_id"]: _attachment(row) for row in rows}

    async def of_file(self, file_id: str) -> list[str]:
        """Ids of the stores that a file is in."""
        rows = await self._database.rows("SELECT store_id FROM attachments WHERE file_id = ?", file_id)
        return [row["store_id"] for row in rows]

    async def remove(self, store_id: str, file_id: str) -> bool:
        """Whether it was there."""
        statement = "DELETE FROM attachments WHERE store_id = ? AND file_id = ?"
        return bool(await self._database.write((statement, (store_id, file_id))))

    async def has_store(self, store_id: str) -> bool:
        """Whether the store itself is still there."""
        return await self._database.row("SELECT 1 FROM stores WHERE id = ? AND expired = 0", store_id) is not None

    async def claimed(self, tenant: str, knowledge: str) -> bool:
        """Whether any store has this knowledge base, one that is being removed included."""
        sql = "SELECT 1 FROM stores WHERE tenant = ? AND knowledge = ?"
        return await self._database.row(sql, tenant, knowledge) is not None

    def removing(self, store_id: str) -> AbstractAsyncContextManager[None]:
        """The turn to remove a store, or what is left in it."""
        return self._database.turn(turn_of(store_id))

    async def finish(self, found: Attachment, error: tuple[str, str] | None = None) -> bool:
        """Ingestion is done. False if the file was removed, cancelled or attached anew meanwhile."""
        status: Status = "completed" if error is None else "failed"
        code, message = error or (None, None)
        values = (status, code, message, found.store_id, found.file_id, found.attempt)
        return bool(await self._database.write((_FINISH, values)))

    async def take_waiting(self, after: str) -> tuple[Attachment, Row] | None:
        """The next file to ingest with its store's row, and the turn to do so, which other gateways leave to us until
        `release`. Tenants take turns, `after` is whose turn it was."""
        rows = await self._database.rows(
            "SELECT attachments.*, tenant, knowledge FROM attachments JOIN stores ON stores.id = store_id "
            "WHERE status = 'in_progress' AND expired = 0 "
            "ORDER BY tenant <= ?, tenant, attachments.created_at, attempt LIMIT ?",
            *(after, _LOOKED_AT),
        )
        for row in rows:
            found = _attachment(row)
            if not await self._database.take(found.attempt):
                continue
            now = None
            try:
                now = await self.find(found.store_id, found.file_id)
            finally:
                ours = now is not None and (now.attempt, now.status) == (found.attempt, "in_progress")
                if not ours:  # another gateway was quicker, or the database is gone
                    await self.release(found)
            if ours:
                return found, row
        return None

    async def release(self, found: Attachment) -> None:
        """Others may have it now."""
        await self._database.release(found.attempt)


class Batches:
    """Files that were attached together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def created_at(self, store_id: str, batch: str) -> float:
        """Raises NotFound."""
        row = await self._database.row("SELECT * FROM batches WHERE id = ? AND store_id = ?", batch, store_id)
        if row is None:
            raise NotFound(f"this vector store has no file batch {batch[:100]!r}")
        return float(row["created_at"])

    async def files(self, batch: str) -> list[Attachment]:
        """Oldest first, without those that were deleted since."""
        rows = await self._database.rows(
            "SELECT attachments.* FROM batches JOIN batch_files ON batch_id = batches.id "
            "JOIN attachments USING (store_id, file_id) WHERE batches.id = ? ORDER BY attachments.created_at, file_id",
            batch,
        )
        return [_attachment(row) for row in rows]

    async def cancel(self, batch: str) -> None:
        """What is not yet ingested will not be."""
        await self._database.write(
            (
                "UPDATE attachments SET status = 'cancelled' WHERE status = 'in_progress' AND (store_id, file_id) IN "
                "(SELECT store_id, file_id FROM batches JOIN batch_files ON batch_id = id WHERE id = ?)",
                (batch,),
            )
        )


def counts(statuses: Iterable[Status], ingested: int = 0) -> dict[str, int]:
    """OpenAI's file counts; `ingested` documents have no file and are complete."""
    listed = list(statuses)
    by_status: dict[str, int] = {status: listed.count(status) for status in STATUSES}
    by_status["completed"] += ingested
    return {**by_status, "total": len(listed) + ingested}


def _written(terms: Terms) -> tuple[Any, ...]:
    cut = None if terms.chunking is None else json.dumps([terms.chunking.size, terms.chunking.overlap])
    return json.dumps(terms.attributes), json.dumps(sorted(terms.groups)), cut


def _attachment(row: Row) -> Attachment:
    chunking = Chunking(*json.loads(row["chunking"])) if row["chunking"] else None
    terms = Terms(json.loads(row["attributes"]), frozenset(json.loads(row["groups"])), chunking)
    error = (row["error_code"], row["error_message"]) if row["error_code"] else None
    names = ("store_id", "file_id", "source", "attempt", "created_at", "status")
    return Attachment(**{name: row[name] for name in names}, error=error, terms=terms)
