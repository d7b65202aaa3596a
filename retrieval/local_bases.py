"""The knowledge bases of a process that owns its store alone (lock.py): catalogues in memory, tantivy on disk.

Chroma is the truth. A document's version becomes real when its first passage is written, which is the last step, and a
version without it does not exist; so opening finds out what there is, and removes what a crash left behind.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retrieval.bases import collection_name, described, recover, synchronise
from retrieval.catalogue import Catalogue, Entry
from retrieval.errors import EmbedderMismatch, UnknownKnowledge
from retrieval.lexical import TantivyIndex
from retrieval.search import Base
from retrieval.vectors import ChromaDatabase


@dataclass(frozen=True, slots=True)
class LocalChange:
    """See Change."""

    base: Base
    source: str

    @property
    def current(self) -> Entry | None:
        """See Change."""
        return self.base.catalogue.entries.get(self.source)

    def begin(self, chunks: int) -> tuple[str, int]:  # noqa: ARG002  # whoever shares the store has to note it
        """See Change."""
        return self.base.catalogue.begin(self.source)

    def switch(self, entry: Entry) -> None:
        """See Change."""
        self.base.catalogue.switch(entry)

    def condemn(self) -> None:
        """See Change."""
        self.base.catalogue.condemn(self.source)

    def erased(self, entry: Entry) -> None:
        """See Change."""
        if self.current is not None and self.current.version == entry.version:
            self.base.catalogue.remove(self.source)


class LocalBases:
    """See Bases. `lexical` is the folder of the lexical indexes. Opening raises EmbedderMismatch."""

    def __init__(self, chroma: ChromaDatabase, lexical: Path, fingerprint: str) -> None:
        self._chroma, self._lexical, self._fingerprint = chroma, lexical, fingerprint
        self._writing = threading.Lock()
        self._open: dict[tuple[str, str], Base] = {}
        try:
            for name, metadata in chroma.collections().items():
                self._recover(name, metadata)
        except BaseException:
            self.close()
            raise

    def find(self, tenant: str, knowledge: str) -> Base:
        """See Bases."""
        base = self._open.get((tenant, knowledge))
        if base is None:
            raise UnknownKnowledge(knowledge)
        if base.lexical.behind:
            with self._writing:
                synchronise(base)
        return base

    @contextmanager
    def change(self, tenant: str, knowledge: str, source: str, *, create: bool = False) -> Iterator[LocalChange]:
        """See Bases."""
        with self._writing:
            if create and (tenant, knowledge) not in self._open:
                self._create(tenant, knowledge)
            base = self._open.get((tenant, knowledge))
            if base is None:
                raise UnknownKnowledge(knowledge)
            yield LocalChange(base, source)

    @contextmanager
    def still(self, base: Base) -> Iterator[None]:  # noqa: ARG002  # one lock for all
        """See Bases."""
        with self._writing:
            yield

    def drop(self, tenant: str, knowledge: str) -> None:
        """See Bases."""
        with self._writing:
            base = self._open.get((tenant, knowledge))
            if base is None:
                raise UnknownKnowledge(knowledge)
            base.lexical.drop()
            self._chroma.drop(collection_name(tenant, knowledge))
            del self._open[tenant, knowledge]

    def names(self, tenant: str) -> list[str]:
        """See Bases."""
        return sorted(knowledge for owner, knowledge in list(self._open) if owner == tenant)

    def count(self) -> int:
        """See Bases."""
        return sum(info.chunks for base in list(self._open.values()) for info in base.catalogue.documents())

    def healthy(self) -> bool:
        """See Bases."""
        return True

    def close(self) -> None:
        """See Bases."""
        for base in self._open.values():
            base.lexical.close()

    def _create(self, tenant: str, knowledge: str) -> None:
        about = described(tenant, knowledge, self._fingerprint)
        name = collection_name(tenant, knowledge)
        index = TantivyIndex.opened(self._lexical / name)
        base = Base(knowledge, self._chroma.create(name, about), Catalogue(), index)
        synchronise(base)  # an index that outlived a knowledge base of this name
        self._open[tenant, knowledge] = base

    def _recover(self, name: str, metadata: Mapping[str, Any]) -> None:
        tenant, knowledge = str(metadata.get("tenant")), str(metadata.get("knowledge", name))
        if metadata.get("fingerprint") != self._fingerprint:
            raise EmbedderMismatch(knowledge, str(metadata.get("fingerprint", "none")), self._fingerprint)
        vectors = self._chroma.open(name)
        base = Base(knowledge, vectors, recover(vectors), TantivyIndex.opened(self._lexical / name))
        self._open[tenant, knowledge] = base
        synchronise(base)
