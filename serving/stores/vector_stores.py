"""OpenAI's vector stores: every operation that its client has, over knowledge bases of the caller's tenant."""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from serving.auth import Caller
from serving.errors import BadRequest, NotFound, NotOffered
from serving.knowledge import Knowledge
from serving.stores import fields as check
from serving.stores.attachments import STATUSES, Attachment, Attachments, Batches, Terms, counts
from serving.stores.bases import Base, Bases
from serving.stores.contents import Contents, Shelf
from serving.stores.files import Files, StoredFile
from serving.stores.paging import Page, Wire

Clock = Callable[[], float]
_ATTACHING = ("attributes", "chunking_strategy", "breakeven")
_POLL_S, _POLLS = 0.05, 200


class VectorStores:
    """Ids of other tenants are as unknown as ids that never were. Raises NotFound, BadRequest, NotOffered, Conflict."""

    def __init__(
        self,
        bases: Bases,
        files: Files,
        attachments: Attachments,
        batches: Batches,
        knowledge: Knowledge,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._bases, self._files, self._attachments, self._batches = bases, files, attachments, batches
        self._knowledge, self._clock, self._wake = knowledge, clock, wake
        self._shelf = Shelf(attachments, knowledge)

    async def create(self, caller: Caller, fields: Mapping[str, Any]) -> Wire:
        """A new store, with files if `file_ids` names some."""
        check.only(
            fields, "name", "description", "metadata", "expires_after", "file_ids", "chunking_strategy", "breakeven"
        )
        files = await self._named(caller, check.ids(fields.get("file_ids") or []), fields)
        base = await self._bases.create(caller, fields, self._clock())
        await self._attach(base, files)
        return await self._described(caller, base)

    async def page(self, caller: Caller, page: Page) -> Wire:
        """The tenant's stores."""
        bases = {base.id: base for base in await self._bases.all(caller, self._clock())}
        found = page.of({"id": id} for id in bases)
        found["data"] = [await self._described(caller, bases[each["id"]]) for each in found["data"]]
        return found

    async def retrieve(self, caller: Caller, id: str) -> Wire:
        """One store."""
        return await self._described(caller, await self._bases.find(caller, id, self._clock()))

    async def update(self, caller: Caller, id: str, fields: Mapping[str, Any]) -> Wire:
        """Name, metadata, expiry."""
        check.only(fields, "name", "metadata", "expires_after")
        base = await self._bases.usable(caller, id, self._clock())
        await self._bases.update(base, fields, self._clock())
        return await self.retrieve(caller, base.id)

    async def delete(self, caller: Caller, id: str) -> Wire:
        """The store and its passages; the files stay."""
        base = await self._bases.find(caller, id, self._clock())
        await self._bases.delete(caller, base)
        return {"id": base.id, "object": "vector_store.deleted", "deleted": True}

    async def attach(self, caller: Caller, id: str, fields: Mapping[str, Any]) -> Wire:
        """One file into a store."""
        check.only(fields, "file_id", *_ATTACHING)
        base = await self._bases.usable(caller, id, self._clock())
        files = await self._named(caller, check.ids([fields.get("file_id")], "file_id"), fields)
        await self._attach(base, files)
        return await self.file(caller, base.id, files[0][0].id)

    async def files(self, caller: Caller, id: str, page: Page, status: str | None) -> Wire:
        """What is in a store, documents that were ingested by other means included."""
        contents = await self._contents(caller, id)
        shown = [self._shelf.document(contents, id, info) for id, info in sorted(contents.ingested.items())]
        shown += [self._shelf.file(contents, each) for each in contents.attached]
        return page.of(_filtered(shown, status))

    async def file(self, caller: Caller, id: str, file_id: str) -> Wire:
        """One file of a store."""
        contents = await self._contents(caller, id)
        found = next((each for each in contents.attached if each.file_id == file_id), None)
        if found is not None:
            return self._shelf.file(contents, found)
        if file_id in contents.ingested:
            return self._shelf.document(contents, file_id, contents.ingested[file_id])
        raise _absent(file_id)

    async def retag(self, caller: Caller, id: str, file_id: str, fields: Mapping[str, Any]) -> Wire:
        """New attributes for a file. Waits for them to be searchable, a while at most: the status tells."""
        check.only(fields, "attributes")
        base = await self._bases.usable(caller, id, self._clock())
        found = await self._attached(base, file_id, "its attributes cannot change here; ingest it again with new ones")
        terms = replace(found.terms, attributes=check.attributes(fields.get("attributes")))
        await self._attach(base, [(await self._files.find(caller.tenant, file_id, self._clock()), terms)])
        for _ in range(_POLLS):
            now = await self._attachments.find(base.id, file_id)
            if now is None or now.status != "in_progress":
                break
            await asyncio.sleep(_POLL_S)
        return await self.file(caller, base.id, file_id)

    async def detach(self, caller: Caller, id: str, file_id: str) -> Wire:
        """Out of the store; the file itself stays. A document without a file is gone."""
        contents = await self._contents(caller, id)
        found = next((each for each in contents.attached if each.file_id == file_id), None)
        if found is not None:
            await self._remove(caller, contents.base, found)
        elif file_id in contents.ingested:
            await self._knowledge.remove(caller, contents.base.knowledge, contents.ingested[file_id].source)
        else:
            raise _absent(file_id)
        return {"id": file_id, "object": "vector_store.file.deleted", "deleted": True}

    async def detach_everywhere(self, caller: Caller, file_id: str) -> None:
        """A file is about to be deleted."""
        for store_id in await self._attachments.of_file(file_id):
            base = await self._bases.find(caller, store_id, self._clock())
            found = await self._attachments.find(base.id, file_id)
            if found is not None:
                await self._remove(caller, base, found)

    async def content(self, caller: Caller, id: str, file_id: str) -> Wire:
        """The text that was read of a file."""
        base = await self._bases.find(caller, id, self._clock())
        found = await self._attached(base, file_id, "its bytes were not kept; look at the original")
        text = await self._knowledge.text(found.source, await self._files.read(file_id))
        data = [{"type": "text", "text": text}]
        return {"object": "vector_store.file_content.page", "data": data, "has_more": False, "next_page": None}

    async def attach_batch(self, caller: Caller, id: str, fields: Mapping[str, Any]) -> Wire:
        """Many files at once: `file_ids` on common terms, or `files` each on its own."""
        check.only(fields, "file_ids", "files", *_ATTACHING)
        if (fields.get("file_ids") is None) == (fields.get("files") is None):
            raise BadRequest("give either `file_ids` or `files`", param="file_ids")
        base = await self._bases.usable(caller, id, self._clock())
        if fields.get("file_ids") is not None:
            files = await self._named(caller, check.ids(fields["file_ids"]), fields)
        else:
            files = await self._each_named(caller, fields["files"], fields)
        batch = f"vsfb_{secrets.token_hex(12)}"
        await self._attach(base, files, batch)
        return await self.batch(caller, base.id, batch)

    async def batch(self, caller: Caller, id: str, batch: str) -> Wire:
        """How far a batch is."""
        base = await self._bases.find(caller, id, self._clock())
        created_at = await self._batches.created_at(base.id, batch)
        tally = counts(each.status for each in await self._batches.files(batch))
        ended = "cancelled" if tally["cancelled"] else "completed"
        return {
            "id": batch,
            "object": "vector_store.files_batch",
            "created_at": int(created_at),
            "vector_store_id": base.id,
            "status": "in_progress" if tally["in_progress"] else ended,
            "file_counts": tally,
        }

    async def cancel_batch(self, caller: Caller, id: str, batch: str) -> Wire:
        """Leave the rest of a batch out; what is already in stays."""
        base = await self._bases.find(caller, id, self._clock())
        await self._batches.created_at(base.id, batch)
        await self._batches.cancel(batch)
        return await self.batch(caller, base.id, batch)

    async def batch_files(self, caller: Caller, id: str, batch: str, page: Page, status: str | None) -> Wire:
        """The files of a batch."""
        contents = await self._contents(caller, id)
        await self._batches.created_at(contents.base.id, batch)
        shown = [self._shelf.file(contents, each) for each in await self._batches.files(batch)]
        return page.of(_filtered(shown, status))

    async def _described(self, caller: Caller, base: Base) -> Wire:
        return self._shelf.store(await self._shelf.contents(caller, base))

    async def _contents(self, caller: Caller, id: str) -> Contents:
        return await self._shelf.contents(caller, await self._bases.find(caller, id, self._clock()))

    async def _attach(self, base: Base, files: Sequence[tuple[StoredFile, Terms]], batch: str | None = None) -> None:
        await self._attachments.add(base, files, self._clock(), batch)
        self._wake()

    async def _named(
        self, caller: Caller, ids: Sequence[str], fields: Mapping[str, Any]
    ) -> list[tuple[StoredFile, Terms]]:
        await self._knowledge.open()
        terms = Terms(
            check.attributes(fields.get("attributes")),
            check.groups(fields.get("breakeven")),
            check.chunking(fields.get("chunking_strategy"), self._knowledge.longest),
        )
        return [(file, terms) for file in await self._files.find_all(caller.tenant, ids, self._clock())]

    async def _each_named(
        self, caller: Caller, entries: Any, fields: Mapping[str, Any]
    ) -> list[tuple[StoredFile, Terms]]:
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise BadRequest("`files` must be a list of objects with `file_id`", param="files")
        check.ids([entry.get("file_id") for entry in entries], "files")
        found = {}
        for entry in entries:
            check.only(entry, "file_id", *_ATTACHING)
            for pair in await self._named(caller, [entry["file_id"]], {"breakeven": fields.get("breakeven"), **entry}):
                found[entry["file_id"]] = pair
        return list(found.values())

    async def _attached(self, base: Base, file_id: str, why_not: str) -> Attachment:
        found = await self._attachments.find(base.id, file_id)
        if found is not None:
            return found
        contents = await self._shelf.contents(_owner(base), base)
        if file_id in contents.ingested:
            source = contents.ingested[file_id].source
            raise NotOffered(f"{source!r} was not attached as a file but ingested: {why_not}")
        raise _absent(file_id)

    async def _remove(self, caller: Caller, base: Base, found: Attachment) -> None:
        await self._attachments.remove(base.id, found.file_id)
        try:
            await self._knowledge.remove(caller, base.knowledge, found.source)
        except NotFound:  # it had not been ingested yet, or could not be
            return


def _owner(base: Base) -> Caller:
    return Caller(base.tenant, frozenset(), "operator", "stores")


def _absent(file_id: str) -> NotFound:
    return NotFound(f"this vector store has no file {file_id[:100]!r}", param="file_id")


def _filtered(shown: list[Wire], status: str | None) -> list[Wire]:
    if status is not None and status not in STATUSES:
        raise BadRequest(f"`filter` must be one of {', '.join(STATUSES)}", param="filter")
    return [each for each in shown if status in (None, each["status"])]
