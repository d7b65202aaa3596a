"""The bytes of uploaded files: in a folder of the home, or beside the shared catalogue in PostgreSQL.

There in parts, so that neither a gateway nor the database has a whole file in one piece of memory. The row that makes a
file known and its bytes are kept together or not at all.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO, Protocol

from serving.database.protocol import Statement
from serving.stores.database import Database

PART_BYTES = 1 << 20
_UNFINISHED = ".part"


class Blobs(Protocol):
    """Ids are ours, never a client's own words."""

    async def keep(self, id: str, content: BinaryIO, row: Statement) -> None:
        """Keep what is left of `content` under `id`, then run the statement that makes it known."""

    async def forget(self, id: str, row: Statement) -> None:
        """Run the statement that makes it unknown; if that changed something, remove the bytes."""

    def pieces(self, id: str) -> AsyncIterator[bytes]:
        """The bytes, in order. Raises FileNotFoundError if there are none or they are removed meanwhile."""

    async def remove_orphans(self) -> None:
        """Remove what a crash left without a row."""


class FolderBlobs:
    """A file each."""

    def __init__(self, database: Database, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._database, self._folder = database, folder

    async def keep(self, id: str, content: BinaryIO, row: Statement) -> None:
        """See Blobs."""
        await asyncio.to_thread(self._save, id, content)
        await self._database.write(row)

    async def forget(self, id: str, row: Statement) -> None:
        """See Blobs. A crash between the two leaves bytes that nobody can reach."""
        if await self._database.write(row):
            await asyncio.to_thread((self._folder / id).unlink, missing_ok=True)

    async def pieces(self, id: str) -> AsyncIterator[bytes]:
        """See Blobs."""
        with await asyncio.to_thread((self._folder / id).open, "rb") as file:
            while piece := await asyncio.to_thread(file.read, PART_BYTES):
                yield piece

    async def remove_orphans(self) -> None:
        """See Blobs."""
        known = {row["id"] for row in await self._database.rows("SELECT id FROM files")}
        for path in await asyncio.to_thread(lambda: list(self._folder.iterdir())):
            if path.name not in known:
                await asyncio.to_thread(path.unlink, missing_ok=True)

    def _save(self, id: str, content: BinaryIO) -> None:
        unfinished = self._folder / (id + _UNFINISHED)
        with unfinished.open("wb") as target:
            shutil.copyfileobj(content, target)
            target.flush()
            os.fsync(target.fileno())
        unfinished.rename(self._folder / id)


class SharedBlobs:
    """Rows of PART_BYTES each, which go with the file's own row."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, id: str, content: BinaryIO, row: Statement) -> None:
        """See Blobs. One transaction: others see the file when it is whole."""

        def statements() -> Iterator[Statement]:
            yield row
            for number in count():
                piece = content.read(PART_BYTES)
                yield "INSERT INTO file_parts VALUES (?,?,?)", (id, number, piece)
                if not piece:  # which marks the end
                    return

        await self._database.write_all(statements())

    async def forget(self, id: str, row: Statement) -> None:
        """See Blobs."""
        del id  # the row takes the parts with it
        await self._database.write(row)

    async def pieces(self, id: str) -> AsyncIterator[bytes]:
        """See Blobs. Ends with a part that is empty, so that one that was deleted meanwhile does not look whole."""
        for number in count():
            found = await self._database.row("SELECT bytes FROM file_parts WHERE file_id = ? AND part = ?", id, number)
            if found is None:
                raise FileNotFoundError(id)
            if not found["bytes"]:
                return
            yield bytes(found["bytes"])

    async def remove_orphans(self) -> None:
        """See Blobs: there are none."""


def blobs_of(database: Database, folder: Path) -> Blobs:
    """Where the files of this catalogue keep their bytes."""
    return SharedBlobs(database) if database.shared else FolderBlobs(database, folder)
