"""Everything about files and vector stores that the gateway opens at start and closes at the end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from serving.auth import Caller
from serving.database.opening import tables
from serving.knowledge import Knowledge
from serving.stores.attachments import Attachments, Batches
from serving.stores.bases import Bases
from serving.stores.blobs import blobs_of
from serving.stores.database import SCHEMA, Database
from serving.stores.files import Files, StoredFile, Upload
from serving.stores.paging import Page, Wire
from serving.stores.search import Search
from serving.stores.vector_stores import Clock, VectorStores
from serving.stores.worker import LOOK_S, Worker

if TYPE_CHECKING:
    from serving.database.postgres import PostgresDatabase


@dataclass(frozen=True, slots=True)
class Stores:
    """What routes and completions use."""

    vector_stores: VectorStores
    search: Search
    database: Database
    uploads: Files
    _bases: Bases
    _clock: Clock

    async def upload(self, caller: Caller, upload: Upload, content: BinaryIO) -> Wire:
        """Keep a file."""
        return (await self.uploads.create(caller.tenant, upload, content, self._clock())).wire()

    async def files(self, caller: Caller, page: Page, purpose: str | None) -> Wire:
        """The tenant's files."""
        return await self.uploads.page(caller.tenant, page, purpose, self._clock())

    async def file(self, caller: Caller, id: str) -> Wire:
        """One file. Raises NotFound."""
        return (await self.uploads.find(caller.tenant, id, self._clock())).wire()

    async def content(self, caller: Caller, id: str) -> tuple[StoredFile, AsyncIterator[bytes]]:
        """A file and its bytes, a piece at a time. Raises NotFound."""
        file = await self.uploads.find(caller.tenant, id, self._clock())
        return file, self.uploads.pieces(file.id)

    async def delete_file(self, caller: Caller, id: str) -> Wire:
        """The file, and its passages in every vector store. Raises NotFound."""
        file = await self.uploads.find(caller.tenant, id, self._clock())
        await self.vector_stores.detach_everywhere(caller, file.id)
        await self.uploads.delete(caller.tenant, file.id)
        return {"id": file.id, "object": "file", "deleted": True}

    async def sweep(self) -> None:
        """Remove what has expired; until then it is only out of sight."""
        for tenant, id in await self.uploads.expired(self._clock()):
            await self.vector_stores.detach_everywhere(Caller(tenant, frozenset(), "operator", "expiry"), id)
            await self.uploads.delete(tenant, id)
        await self._bases.expire(self._clock())


@asynccontextmanager
async def open_stores(
    home: Path, knowledge: Knowledge, clock: Clock, shared: "PostgresDatabase | None" = None
) -> AsyncIterator[Stores]:
    """Opens the catalogue, under `home` or in the shared database, and ingests in the background until the end. `clock`
    gives Unix seconds."""
    database = Database(await asyncio.to_thread(tables, shared, home / "files.db", SCHEMA))
    try:
        files = Files(database, blobs_of(database, home / "files"))
        attachments, bases = Attachments(database), Bases(database, knowledge)
        await files.remove_orphans()
        waiting = asyncio.Event()
        vector_stores = VectorStores(bases, files, attachments, Batches(database), knowledge, clock, waiting.set)
        stores = Stores(vector_stores, Search(bases, attachments, knowledge, clock), database, files, bases, clock)
        look_s = LOOK_S if database.shared else None
        worker = Worker(knowledge, files, attachments, waiting, stores.sweep, look_s)
        worker.start()
        try:
            yield stores
        finally:
            await worker.stop()
    finally:
        database.close()
