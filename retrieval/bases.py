"""Who holds the knowledge bases and whose turn it is to change a document: this process alone, or one of several.

The store tells how a document is written and erased; what is here tells it which knowledge bases there are, lets one
writer at a time change a document, and keeps what a crash left behind from being seen until it is removed.
"""

import hashlib
from contextlib import AbstractContextManager
from typing import Protocol

from retrieval import filters
from retrieval.catalogue import Catalogue, Entry
from retrieval.lexical import lexical_text
from retrieval.search import Base, Vectors


class Change(Protocol):
    """The turn to change one document: nobody else does, or drops its knowledge base, meanwhile."""

    @property
    def base(self) -> Base:
        """The document's knowledge base."""
        ...

    @property
    def current(self) -> Entry | None:
        """What is stored of it."""
        ...

    def begin(self, chunks: int) -> tuple[str, int]:
        """A new version of so many passages, not visible until switch(), and its sequence number."""
        ...

    def switch(self, entry: Entry) -> None:
        """The new version is visible and the old one is not."""
        ...

    def condemn(self) -> None:
        """Hides the document before it is erased. Should erasing fail, it is listed and can be erased again."""
        ...

    def erased(self, entry: Entry) -> None:
        """A version that was replaced or condemned is gone from disk."""
        ...


class Bases(Protocol):
    """All knowledge bases of all tenants. Thread-safe."""

    def find(self, tenant: str, knowledge: str) -> Base:
        """Raises UnknownKnowledge."""
        ...

    def change(
        self, tenant: str, knowledge: str, source: str, *, create: bool = False
    ) -> AbstractContextManager[Change]:
        """Waits for the turn to change a document; the knowledge base is made if need be and `create` says so.

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

    def count(self) -> int:
        """Passages in all knowledge bases."""
        ...

    def healthy(self) -> bool:
        """Whether it answers."""
        ...

    def close(self) -> None:
        """Frees what it holds."""
        ...


def passage_ids(version: str, chunks: int) -> list[str]:
    """Of all passages of a version, the first one first."""
    return [f"{version}-{index}" for index in range(chunks)]


def erase(base: Base, version: str, chunks: int) -> None:
    """From the words first: what is left of it in Chroma is found again at the next start."""
    base.lexical.remove([version])
    base.vectors.delete(passage_ids(version, chunks))


def recover(vectors: Vectors) -> Catalogue:
    """What whole versions Chroma holds; removes those that were not finished or were replaced when their owner died."""
    first = vectors.rows(sorted(vectors.matching({"index": 0})))
    catalogue = Catalogue.of([row for _, row in first.values()])
    versions = catalogue.versions()
    vectors.delete([id for id in vectors.matching(None) if id.rpartition("-")[0] not in versions])
    return catalogue


def synchronise(base: Base) -> None:
    """Makes the lexical index hold what the catalogue says is in Chroma."""
    present, current = base.lexical.sizes(), base.catalogue.versions()
    base.lexical.remove([version for version, size in present.items() if current.get(version) != size])
    missing = {version: size for version, size in current.items() if present.get(version) != size}
    for version, size in missing.items():
        rows = base.vectors.rows(passage_ids(version, size))
        texts = {id: lexical_text(row["title"], row["heading"], text) for id, (text, row) in rows.items()}
        base.lexical.add(texts, version)
    base.lexical.commit()


def collection_name(tenant: str, knowledge: str) -> str:
    """Of the Chroma collection: any name that we allow, in one that Chroma allows."""
    return "kb-" + hashlib.sha256(f"{tenant}\0{knowledge}".encode()).hexdigest()[:32]


def described(tenant: str, knowledge: str, fingerprint: str) -> dict[str, filters.Scalar]:
    """What is kept with a collection. Raises BadName."""
    filters.check_name("tenant", tenant)
    filters.check_name("knowledge base", knowledge)
    return {"tenant": tenant, "knowledge": knowledge, "fingerprint": fingerprint}
