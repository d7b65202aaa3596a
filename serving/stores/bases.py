"""Vector stores as knowledge bases: which id is which, how they are described, and when they expire.

A store made here is known by a random id; its knowledge base takes the store's name if that is free and usable, so
that `knowledge: NAME` of a served model finds it, and the id otherwise. A knowledge base that was filled by other means
gets its id when it is first listed or asked for by its name.
"""

import json
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from retrieval.errors import BadName
from retrieval.filters import check_name
from serving.auth import Caller
from serving.database.protocol import Contradiction, Row
from serving.errors import BadRequest, Conflict, NotFound
from serving.knowledge import Knowledge
from serving.stores import fields as check
from serving.stores.database import Database

DAY_S = 86_400
# A search keeps a store alive; to the minute is enough, and spares a write to disk for every question.
TOUCH_EVERY_S = 60
_BY_ID = "SELECT * FROM stores WHERE id = ?"
# No file is attached to it from here on; for an expiry only if nobody has used it since. Before what takes files out of
# it, so that an attachment that comes at the same time is either taken out or finds it closed.
_CLOSE = "UPDATE stores SET expired = 1 WHERE id = ? AND last_active_at = coalesce(?, last_active_at)"
_DETACH = (
    "DELETE FROM attachments WHERE store_id = ? AND EXISTS (SELECT 1 FROM stores WHERE id = store_id AND expired = 1)"
)


@dataclass(frozen=True, slots=True)
class Base:
    """One vector store. Times are Unix seconds."""

    id: str
    tenant: str
    knowledge: str
    name: str
    description: str | None
    metadata: Mapping[str, str]
    created_at: float
    last_active_at: float
    expires_days: int | None
    expired: bool

    @property
    def expires_at(self) -> float | None:
        """None: never."""
        return None if self.expires_days is None else self.last_active_at + self.expires_days * DAY_S


class Bases:
    """The vector stores of all tenants; every call is bounded by the caller's tenant."""

    def __init__(self, database: Database, knowledge: Knowledge) -> None:
        self._database, self._knowledge = database, knowledge

    async def create(self, caller: Caller, fields: Mapping[str, Any], now: float) -> Base:
        """An empty store. Raises BadRequest."""
        name = check.text(fields, "name")
        metadata, days = check.metadata(fields.get("metadata")), check.expires_days(fields.get("expires_after"))
        id = f"vs_{secrets.token_hex(12)}"
        knowledge = await self._free_name(caller, name) or id
        said = check.text(fields, "description", 512)
        base = Base(id, caller.tenant, knowledge, name or "", said, metadata, now, now, days, False)
        try:
            await self._insert(base)
        except Contradiction as error:  # the name was taken in between
            raise Conflict("another store took this name just now; send the request again") from error
        return base

    async def all(self, caller: Caller, now: float) -> list[Base]:
        """All of the tenant, oldest first."""
        await self._adopt(caller, now)
        rows = await self._database.rows("SELECT * FROM stores WHERE tenant = ? ORDER BY created_at, id", caller.tenant)
        return [await self._aged(_base(row), now) for row in rows]

    async def find(self, caller: Caller, id: str, now: float) -> Base:
        """By id or by the knowledge base's name, expired or not. Raises NotFound."""
        query = "SELECT * FROM stores WHERE tenant = ? AND ? IN (id, knowledge) ORDER BY id <> ?"
        row = await self._database.row(query, caller.tenant, id, id)
        if row is None and not id.startswith("vs_"):
            await self._adopt(caller, now)
            row = await self._database.row(query, caller.tenant, id, id)
        if row is None:
            raise NotFound(f"there is no vector store {id[:100]!r}; GET /v1/vector_stores lists yours")
        return await self._aged(_base(row), now)

    async def usable(self, caller: Caller, id: str, now: float) -> Base:
        """As find, and marks it as active. Raises NotFound; BadRequest if it has expired."""
        base = await self.find(caller, id, now)
        if base.expired:
            raise BadRequest(
                f"the vector store {base.id!r} expired; create a new one and attach its files again",
                code="vector_store_expired",
            )
        if now - base.last_active_at > TOUCH_EVERY_S:
            await self._database.write(("UPDATE stores SET last_active_at = ? WHERE id = ?", (now, base.id)))
        return base

    async def update(self, base: Base, fields: Mapping[str, Any], now: float) -> None:
        """Change name, metadata or expiry; a field left out stays. Raises BadRequest."""
        name = check.text(fields, "name") if fields.get("name") is not None else base.name
        metadata = check.metadata(fields["metadata"]) if "metadata" in fields else base.metadata
        days = check.expires_days(fields["expires_after"]) if "expires_after" in fields else base.expires_days
        values = (name, json.dumps(dict(metadata)), days, now, base.id)
        await self._database.write(
            ("UPDATE stores SET name = ?, metadata = ?, expires_days = ?, last_active_at = ? WHERE id = ?", values)
        )

    async def delete(self, caller: Caller, base: Base) -> None:
        """The store goes last: should a step before fail, it is still listed and can be deleted again. Until then it
        keeps its name, so that nobody else's documents are under it, and what is ingested for it finds it closed."""
        await self._database.write((_CLOSE, (base.id, None)), (_DETACH, (base.id,)))
        async with self._database.turn(turn_of(base.id)):
            row = await self._database.row(_BY_ID, base.id)
            if row is not None:  # else another request was quicker, and the name may be in new hands
                await self._empty(caller, _base(row))
                await self._database.write(("DELETE FROM stores WHERE id = ?", (base.id,)))

    async def expire(self, now: float) -> None:
        """Empty every store whose time is over, also where that was broken off."""
        for row in await self._database.rows("SELECT * FROM stores WHERE expired = 0 AND expires_days IS NOT NULL"):
            await self._aged(_base(row), now)
        expired = await self._database.rows("SELECT id, tenant, knowledge FROM stores WHERE expired = 1")
        for tenant in {row["tenant"] for row in expired}:
            left = await self._knowledge.names(_owner(tenant))
            for row in expired:
                if row["tenant"] == tenant and (row["knowledge"] != row["id"] or row["id"] in left):
                    await self._finish_expiry(_owner(tenant), row["id"])

    async def _aged(self, base: Base, now: float) -> Base:
        expires = base.expires_at
        if base.expired or expires is None or expires > now:
            return base
        # No new documents from here on, unless it was used just now.
        await self._database.write((_CLOSE, (base.id, base.last_active_at)), (_DETACH, (base.id,)))
        owner = _owner(base.tenant)
        await self._finish_expiry(owner, base.id)
        return await self.find(owner, base.id, now)

    async def _finish_expiry(self, owner: Caller, id: str) -> None:
        async with self._database.turn(turn_of(id)):
            row = await self._database.row(_BY_ID, id)
            if row is not None and row["expired"]:
                await self._empty(owner, _base(row))
                # The name is free for another knowledge base.
                await self._database.write(("UPDATE stores SET knowledge = id WHERE id = ?", (id,)))

    async def _empty(self, caller: Caller, base: Base) -> None:
        with suppress(NotFound):  # nothing was ever attached
            await self._knowledge.drop(caller, base.knowledge)

    async def _adopt(self, caller: Caller, now: float) -> None:
        rows = await self._database.rows("SELECT knowledge FROM stores WHERE tenant = ?", caller.tenant)
        for name in sorted(set(await self._knowledge.names(caller)) - {row["knowledge"] for row in rows}):
            with suppress(Contradiction):  # another request did the same
                id = f"vs_{secrets.token_hex(12)}"
                await self._insert(Base(id, caller.tenant, name, name, None, {}, now, now, None, False))

    async def _free_name(self, caller: Caller, name: str | None) -> str | None:
        try:
            usable = check_name("knowledge base", name)
        except BadName:
            return None
        rows = await self._database.rows("SELECT knowledge FROM stores WHERE tenant = ?", caller.tenant)
        taken = {row["knowledge"] for row in rows} | set(await self._knowledge.names(caller))
        return None if usable in taken or usable.startswith("vs_") else usable

    async def _insert(self, base: Base) -> None:
        values = (base.id, base.tenant, base.knowledge, base.name, base.description, json.dumps(dict(base.metadata)))
        times = (base.created_at, base.last_active_at, base.expires_days, 0)
        await self._database.write(("INSERT INTO stores VALUES (?,?,?,?,?,?,?,?,?,?)", (*values, *times)))


def turn_of(id: str) -> str:
    """Name of the turn to remove a store, or what is left in it."""
    return f"store {id}"


def _owner(tenant: str) -> Caller:
    return Caller(tenant, frozenset(), "operator", "expiry")


def _base(row: Row) -> Base:
    fields = {**dict(row), "metadata": json.loads(row["metadata"]), "expired": bool(row["expired"])}
    return Base(**fields)
