"""Which documents a knowledge base holds, in which version, and which versions a query must not see.

Kept in memory by the store's owner and rebuilt at start from the first passage of every document. While a document is
replaced both versions are on disk: the new one is hidden until the switch, the old one from then on. Written by one
thread at a time; readers compare `generation` before and after a query and ask again if it moved.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from retrieval import filters
from retrieval.filters import Scalar, Where


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
    _groups: set[str] = field(default_factory=set)  # all that documents carry, and perhaps some that one carried
    _hidden: frozenset[str] = frozenset()
    _sequence: int = 0

    @classmethod
    def of(cls, first_passages: Iterable[Mapping[str, Any]]) -> Self:
        """From the metadata of every first passage: of two versions of one document, the later one counts."""
        catalogue = cls()
        for row in sorted(first_passages, key=lambda row: int(row["sequence"])):
            groups = frozenset(key.removeprefix(filters.GROUP) for key in row if key.startswith(filters.GROUP))
            info = DocumentInfo(row["source"], row["title"], row["sha256"], row["chunks"], groups)
            catalogue.entries[info.source] = Entry(info, row["digest"], row["version"])
            catalogue._groups |= groups
            catalogue._sequence = int(row["sequence"])
        return catalogue

    def begin(self, source: str, groups: frozenset[str]) -> tuple[str, int]:
        """A new version, hidden until switch(), and its sequence number."""
        self._sequence += 1
        self._groups |= groups
        version = f"{hashlib.sha256(source.encode()).hexdigest()[:16]}-{self._sequence}"
        self._move(self._hidden | {version})
        return version, self._sequence

    def switch(self, entry: Entry) -> None:
        """The new version is visible and the old one is not."""
        old = self.entries.get(entry.info.source)
        self.entries[entry.info.source] = entry
        self._move((self._hidden | ({old.version} if old else set())) - {entry.version})

    def condemn(self, source: str) -> Entry | None:
        """Hides a document before it is erased. Should erasing fail, it is still listed and can be erased again."""
        entry = self.entries.get(source)
        if entry is not None:
            self.entries[source] = replace(entry, digest="")
            self._move(self._hidden | {entry.version})
        return entry

    def remove(self, source: str) -> None:
        """A condemned document is gone from disk."""
        self.forget(self.entries.pop(source).version)

    def forget(self, version: str) -> None:
        """A hidden version is gone from disk."""
        self._hidden -= {version}

    def documents(self) -> list[DocumentInfo]:
        """Sorted by source."""
        return sorted((entry.info for entry in list(self.entries.values())), key=lambda info: info.source)

    def current_versions(self) -> set[str]:
        """Every other version on disk is left over."""
        return {entry.version for entry in self.entries.values()}

    def scope(self, groups: frozenset[str]) -> Where | None:
        """What a caller with these groups may see, as a clause; None: nothing."""
        visible = groups & self._groups
        if not visible:
            return None
        clauses = [filters.scope(visible)]
        if hidden := self._hidden:
            clauses.append({"version": {"$nin": sorted(hidden)}})
        return filters.join("$and", clauses)

    def _move(self, hidden: frozenset[str]) -> None:
        self._hidden = hidden
        self.generation += 1


def digest_of(sha256: str, metadata: Mapping[str, Scalar]) -> str:
    """Of all that makes a stored version: the bytes (their `sha256`), who may see them and the attributes."""
    return hashlib.sha256(json.dumps([sha256, metadata], sort_keys=True).encode()).hexdigest()
