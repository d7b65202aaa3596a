"""Which documents a knowledge base holds, in which version, and which versions a query must not see.

Kept in memory: by the store's owner, rebuilt at start from the first passage of every document; or as a copy of what
PostgreSQL holds, where several processes share the documents (shared_catalogue.py). While a document is replaced both
versions are on disk: the new one is hidden until the switch, the old one from then on. What a caller may see is an
allowlist of versions, asked here for each candidate of a search: the database's own filter on groups takes tens of
milliseconds per ten thousand passages. Written by one thread at a time; readers compare what refresh() says before and
after a query and ask again if it moved.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from retrieval import filters
from retrieval.filters import Scalar


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """A document as operators see it listed. `chunks` is its number of passages, `sha256` that of its bytes."""

    source: str
    title: str
    sha256: str
    chunks: int
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Entry:
    """The current version of a document. `digest` tells whether a new one would differ."""

    info: DocumentInfo
    digest: str
    version: str


@dataclass(slots=True)
class Catalogue:
    """Of one knowledge base. `entries` is by source."""

    entries: dict[str, Entry] = field(default_factory=dict)
    generation: int = 0
    _visible: dict[str, Entry] = field(default_factory=dict)  # by version
    _sizes: Counter[frozenset[str]] = field(default_factory=Counter)  # visible passages by the groups they are for
    _sequence: int = 0

    @classmethod
    def of(cls, first_passages: Iterable[Mapping[str, Any]]) -> Self:
        """From the metadata of every first passage: of two versions of one document, the later one counts."""
        catalogue = cls()
        for row in sorted(first_passages, key=lambda row: int(row["sequence"])):
            groups = frozenset(key.removeprefix(filters.GROUP) for key in row if key.startswith(filters.GROUP))
            info = DocumentInfo(row["source"], row["title"], row["sha256"], row["chunks"], groups)
            catalogue.switch(Entry(info, row["digest"], row["version"]))
            catalogue._sequence = int(row["sequence"])
        return catalogue

    def begin(self, source: str) -> tuple[str, int]:
        """A new version, not visible until switch(), and its sequence number."""
        self._sequence += 1
        return self.named(source, self._sequence), self._sequence

    @staticmethod
    def named(source: str, sequence: int) -> str:
        """A version's name. The same source may come back, so its sequence number makes it unique."""
        return f"{hashlib.sha256(source.encode()).hexdigest()[:16]}-{sequence}"

    @property
    def last_sequence(self) -> int:
        """The highest sequence number so far."""
        return self._sequence

    def switch(self, entry: Entry) -> None:
        """The new version is visible and the old one is not."""
        self._hide(self.entries.get(entry.info.source))
        self.entries[entry.info.source] = entry
        self._visible[entry.version] = entry
        self._sizes[entry.info.groups] += entry.info.chunks
        self.generation += 1

    def condemn(self, source: str) -> Entry | None:
        """Hides a document before it is erased. Should erasing fail, it is still listed and can be erased again."""
        entry = self.entries.get(source)
        if entry is not None:
            self.entries[source] = replace(entry, digest="")
            self._hide(entry)
            self.generation += 1
        return entry

    def remove(self, source: str) -> None:
        """A condemned document is gone from disk."""
        self._hide(self.entries.pop(source, None))

    def refresh(self) -> int:
        """Which state this is now: queries that saw the same one before and after have seen that one alone."""
        return self.generation

    def documents(self) -> list[DocumentInfo]:
        """Sorted by source."""
        return sorted((entry.info for entry in list(self.entries.values())), key=lambda info: info.source)

    def versions(self) -> dict[str, int]:
        """Passages of every current version. Every other version on disk is left over."""
        return {entry.version: entry.info.chunks for entry in self.entries.values()}

    def sees(self, groups: frozenset[str], id: str) -> bool:
        """Whether a passage is current and for one of these groups."""
        entry = self._visible.get(id.rpartition("-")[0])
        return entry is not None and not groups.isdisjoint(entry.info.groups)

    def size(self, groups: frozenset[str]) -> int:
        """Passages that these groups may see."""
        return sum(size for of, size in list(self._sizes.items()) if not groups.isdisjoint(of))

    def ids(self, groups: frozenset[str]) -> Iterator[str]:
        """Of all passages that these groups may see. Walks the whole catalogue."""
        for entry in list(self._visible.values()):
            if not groups.isdisjoint(entry.info.groups):
                yield from (f"{entry.version}-{index}" for index in range(entry.info.chunks))

    def _hide(self, entry: Entry | None) -> None:
        if entry is not None and self._visible.pop(entry.version, None) is not None:
            self._sizes[entry.info.groups] -= entry.info.chunks


def digest_of(sha256: str, metadata: Mapping[str, Scalar]) -> str:
    """Of all that makes a stored version: the bytes (their `sha256`), who may see them and the attributes."""
    return hashlib.sha256(json.dumps([sha256, metadata], sort_keys=True).encode()).hexdigest()
