"""What is in one vector store, as OpenAI describes it: files attached here, and documents ingested by other means."""

from collections.abc import Sequence
from dataclasses import dataclass

from retrieval.catalogue import DocumentInfo
from serving.auth import Caller
from serving.errors import NotFound
from serving.knowledge import Knowledge
from serving.stores.attachments import Attachment, Attachments, counts
from serving.stores.bases import Base
from serving.stores.paging import Wire
from serving.stores.sources import file_of

OVERLAP = 0.12  # the chunker's own


@dataclass(frozen=True, slots=True)
class Contents:
    """A store's catalogue beside the knowledge base's own. `ingested`: documents without a file, by file id."""

    base: Base
    attached: Sequence[Attachment]
    ingested: dict[str, DocumentInfo]
    chunks: dict[str, int]  # by source


class Shelf:
    """Describes stores and their files."""

    def __init__(self, attachments: Attachments, knowledge: Knowledge) -> None:
        self._attachments, self._knowledge = attachments, knowledge

    async def contents(self, caller: Caller, base: Base) -> Contents:
        """Everything in the store."""
        attached = await self._attachments.of_store(base.id)
        try:
            documents = await self._knowledge.documents(caller, base.knowledge)
        except NotFound:  # nothing was ever attached
            documents = []
        known = {each.source for each in attached}
        ingested = {file_of(info.source)[0]: info for info in documents if info.source not in known}
        return Contents(base, attached, ingested, {info.source: info.chunks for info in documents})

    def store(self, contents: Contents) -> Wire:
        """OpenAI's vector store object."""
        base = contents.base
        files = counts((each.status for each in contents.attached), len(contents.ingested))
        expires = base.expires_at
        status = "expired" if base.expired else "in_progress" if files["in_progress"] else "completed"
        days = base.expires_days
        return {
            "id": base.id,
            "object": "vector_store",
            "created_at": int(base.created_at),
            "name": base.name,
            "description": base.description,
            "usage_bytes": self._knowledge.bytes_of(sum(contents.chunks.values())),
            "file_counts": files,
            "status": status,
            "expires_after": None if days is None else {"anchor": "last_active_at", "days": days},
            "expires_at": None if expires is None else int(expires),
            "last_active_at": int(base.last_active_at),
            "metadata": dict(base.metadata),
            "breakeven": {"knowledge": base.knowledge},
        }

    def file(self, contents: Contents, found: Attachment) -> Wire:
        """OpenAI's vector store file object."""
        longest = self._knowledge.longest
        usual = {"max_chunk_size_tokens": longest, "chunk_overlap_tokens": int(longest * OVERLAP)}
        cut = found.terms.chunking
        error = None if found.error is None else {"code": found.error[0], "message": found.error[1]}
        return {
            "id": found.file_id,
            "object": "vector_store.file",
            "usage_bytes": self._knowledge.bytes_of(contents.chunks.get(found.source, 0)),
            "created_at": int(found.created_at),
            "vector_store_id": found.store_id,
            "status": found.status,
            "last_error": error,
            "attributes": found.terms.attributes,
            "chunking_strategy": {"type": "static", "static": usual} if cut is None else cut.wire(),
            "breakeven": {"source": found.source, "groups": sorted(found.terms.groups)},
        }

    def document(self, contents: Contents, id: str, info: DocumentInfo) -> Wire:
        """The same for a document without a file."""
        return {
            "id": id,
            "object": "vector_store.file",
            "usage_bytes": self._knowledge.bytes_of(info.chunks),
            "created_at": int(contents.base.created_at),
            "vector_store_id": contents.base.id,
            "status": "completed",
            "last_error": None,
            "attributes": {},
            "chunking_strategy": {"type": "other"},
            "breakeven": {"source": info.source, "groups": sorted(info.groups)},
        }
