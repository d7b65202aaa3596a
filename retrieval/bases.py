"""Who holds the knowledge bases and whose turn it is to change a document: this process alone, or one of several.

The store tells how a document is written and erased; what is here tells it which knowledge bases there are, lets one
writer at a time change a document, and keeps what a crash left behind from being seen until it is removed.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from retrieval import filters
from retrieval.catalogue import Catalogue, Entry
from retrieval.lexical import lexical_text
from retrieval.rows import passage_ids
from retrieval.search import Base, Vectors


class Turn(Protocol):
    """The turn to change some documents: nobody else does, or drops their knowledge base, meanwhile."""

    @property
    def base(self) -> Base:
        """The documents' knowledge base."""
        ...

    def current(self, source: str) -> Entry | None:
        """What is stored of a document."""
        ...

    def begin(self, chunks: Mapping[str, int]) -> dict[str, str]:
        """New versions of so many passages, by source, not visible until switch()."""
        ...

    def switch(self, entries: Sequence[Entry]) -> None:
        """The new versions are visible and the old ones are not."""
        ...

    def condemn(self, source: str) -> None:
        """Hides a document before it is erased. Should erasing fail, it is listed and can be erased again."""
        ...

    def erased(self, entries: Sequence[Entry]) -> None:
        """Versions that were replaced or condemned are gone from disk."""
        ...


class Bases(Protocol):
    """All knowledge bases of all tenants. Thread-safe."""

    def find(self, tenant: str, knowledge: str) -> Base:
        """Raises UnknownKnowledge."""
        ...

    def turn(
        self, tenant: str, knowledge: str, sources: Collection[str], *, create: bool = False
    ) -> AbstractContextManager[Turn]:
        """Waits for the turn to change documents; the knowledge base is made if need be and `create` says so.

        Raises UnknownKnowledge, BadName."""
        ...

    def still(self, base: Base) -> AbstractContextManager[None]:
        """No version becomes visible or hidden inside."""
        ...

    def drop(self, tenant: str, knowledge: str) -> None:
        """A knowledge base with all that is in it. Raises UnknownKnowledge."""
        ...

    def names(self, tenant: str) -> list[str]:
        """Sorted; none for an unknown tenant."""
        ...

    def every(self) -> list[tuple[str, str]]:
        """(tenant, knowledge base) of each, sorted."""
        ...

    def count(self) -> int:
        """Passages in all knowledge bases."""
        ...

    def healthy(self) -> bool:
        """Whether it answers."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


def erase(base: Base, entries: Sequence[Entry]) -> None:
    """From the words first: what is left of it in Chroma is found again at the next start."""
    base.lexical.remove([entry.version for entry in entries])
    base.vectors.delete([id for entry in entries for id in passage_ids(entry)])


def recover(vectors: Vectors) -> Catalogue:
    """What whole versions Chroma holds; removes those that were not finished or were replaced when their owner died."""
    catalogue = Catalogue.of(vectors.metadata({"index": 0}))
    versions = catalogue.versions()
    if vectors.count() != sum(entry.info.chunks for entry in versions.values()):
        vectors.delete([id for id in vectors.matching(None) if id.rpartition("-")[0] not in versions])
    return catalogue


def synchronise(base: Base) -> None:
    """Makes the lexical index hold what the catalogue says is in Chroma."""
    present, current = base.lexical.sizes(), base.catalogue.versions()
    sizes = {version: entry.info.chunks for version, entry in current.items()}
    base.lexical.remove([version for version, size in present.items() if sizes.get(version) != size])
    for entry in [entry for version, entry in current.items() if present.get(version) != entry.info.chunks]:
        rows = base.vectors.rows(passage_ids(entry))
        texts = {id: lexical_text(entry.info.title, row["heading"], text) for id, (text, row) in rows.items()}
        base.lexical.add(texts, entry.version)
    base.lexical.commit()


def collection_name(tenant: str, knowledge: str) -> str:
    """Of the Chroma collection: any name that we allow, in one that Chroma allows."""
    return "kb-" + hashlib.sha256(f"{tenant}\0{knowledge}".encode()).hexdigest()[:32]


def described(tenant: str, knowledge: str, fingerprint: str) -> dict[str, filters.Scalar]:
    """What is kept with a collection. Raises BadName."""
    filters.check_name("tenant", tenant)
    filters.check_name("knowledge base", knowledge)
    return {"tenant": tenant, "knowledge": knowledge, "fingerprint": fingerprint}
