"""Uploaded files: what they are in the catalogue, their bytes where blobs.py keeps them; each belongs to one tenant."""

import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from serving.database.protocol import Row
from serving.errors import BadRequest, NotFound, NotOffered
from serving.stores.blobs import Blobs
from serving.stores.database import Database, any_of
from serving.stores.paging import Page, Wire

TUNING_PURPOSE = "fine-tune"
PURPOSES = ("assistants", "user_data", TUNING_PURPOSE)
# OpenAI's purposes of what we have no counterpart for. Purpose -> why.
NOT_OFFERED = {
    "batch": "there is no batch endpoint; send the requests one by one, the engine batches them",
    "vision": "the served models take text only",
    "evals": "there is no evals endpoint",
}
SHORTEST_S, LONGEST_S = 3600, 2_592_000
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file. Times are Unix seconds; `expires_at` None: never."""

    id: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    expires_at: float | None

    def wire(self) -> Wire:
        """OpenAI's file object."""
        return {
            "id": self.id,
            "object": "file",
            "bytes": self.bytes,
            "created_at": int(self.created_at),
            "expires_at": None if self.expires_at is None else int(self.expires_at),
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
            "status_details": None,
        }


@dataclass(frozen=True, slots=True)
class Upload:
    """What a client sent, checked."""

    filename: str
    purpose: str
    bytes: int
    lifetime_s: int | None


class Files:
    """The files of all tenants; every call names the tenant, and another one's id is as unknown as none."""

    def __init__(self, database: Database, blobs: Blobs) -> None:
        self._database, self._blobs = database, blobs

    async def create(self, tenant: str, upload: Upload, content: BinaryIO, now: float) -> StoredFile:
        """Stored for good when it returns. Reads `content` to its end."""
        id = f"file-{secrets.token_hex(12)}"
        expires = None if upload.lifetime_s is None else now + upload.lifetime_s
        file = StoredFile(id, upload.filename, upload.purpose, upload.bytes, now, expires)
        values = (id, tenant, file.filename, file.purpose, file.bytes, file.created_at, file.expires_at)
        await self._blobs.keep(id, content, ("INSERT INTO files VALUES (?,?,?,?,?,?,?)", values))
        return file

    async def find(self, tenant: str, id: str, now: float) -> StoredFile:
        """Raises NotFound, also for one that has expired and is not yet swept away."""
        return (await self.find_all(tenant, [id], now))[0]

    async def find_all(self, tenant: str, ids: Sequence[str], now: float) -> list[StoredFile]:
        """Each of `ids`, in order. Raises NotFound for the first that is not there."""
        where = f"id IN {any_of(ids)} AND tenant = ? AND (expires_at IS NULL OR expires_at > ?)"
        sql = f"SELECT * FROM files WHERE {where}"  # noqa: S608  # question marks
        rows = await self._database.rows(sql, *ids, tenant, now)
        found = {row["id"]: _file(row) for row in rows}
        for id in ids:
            if id not in found:
                raise NotFound(f"there is no file {id[:100]!r}; GET /v1/files lists yours", param="file_id")
        return [found[id] for id in ids]

    async def page(self, tenant: str, page: Page, purpose: str | None, now: float) -> Wire:
        """A page of the tenant's files."""
        rows = await self._database.rows(
            "SELECT * FROM files WHERE tenant = ? AND purpose = coalesce(?, purpose) "
            "AND (expires_at IS NULL OR expires_at > ?) ORDER BY created_at, id",
            *(tenant, purpose, now),
        )
        return page.of(_file(row).wire() for row in rows)

    async def expired(self, now: float) -> list[tuple[str, str]]:
        """(tenant, id) of every file whose time is over."""
        rows = await self._database.rows("SELECT tenant, id FROM files WHERE expires_at <= ?", now)
        return [(row["tenant"], row["id"]) for row in rows]

    async def delete(self, tenant: str, id: str) -> None:
        """Its bytes, too."""
        await self._blobs.forget(id, ("DELETE FROM files WHERE id = ? AND tenant = ?", (id, tenant)))

    async def remove_orphans(self) -> None:
        """Bytes without a row, left by a crash."""
        await self._blobs.remove_orphans()

    async def read(self, id: str) -> bytes:
        """The bytes of a known file. `id` is one of ours, never a client's own words. Raises FileNotFoundError."""
        return b"".join([piece async for piece in self._blobs.pieces(id)])

    def pieces(self, id: str) -> AsyncIterator[bytes]:
        """The same, a piece at a time."""
        return self._blobs.pieces(id)


def check_upload(filename: str | None, size: int, purpose: str, anchor: str | None, seconds: str | None) -> Upload:
    """The fields of an upload form. Raises BadRequest, NotOffered."""
    name = (filename or "").replace("\\", "/").rpartition("/")[2].strip()
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise BadRequest(f"`file` must have a name of 1 to {_LONGEST_NAME} printable characters", param="file")
    if purpose in NOT_OFFERED:
        raise NotOffered(f"files for {purpose!r} are not offered: {NOT_OFFERED[purpose]}", param="purpose")
    if purpose not in PURPOSES:
        raise BadRequest(f"`purpose` must be one of {', '.join(PURPOSES)}", param="purpose")
    if anchor is None and seconds is None:
        return Upload(name, purpose, size, None)
    whole = seconds is not None and seconds.isascii() and seconds.isdigit()
    lifetime = int(seconds) if whole and seconds is not None else 0
    if anchor != "created_at" or not SHORTEST_S <= lifetime <= LONGEST_S:
        raise BadRequest(
            f"`expires_after` must have the anchor created_at and {SHORTEST_S} to {LONGEST_S} seconds",
            param="expires_after",
        )
    return Upload(name, purpose, size, lifetime)


def _file(row: Row) -> StoredFile:
    return StoredFile(*(row[name] for name in ("id", "filename", "purpose", "bytes", "created_at", "expires_at")))
