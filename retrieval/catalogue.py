"""Which documents a knowledge base holds, in which version, and which versions a query must not see.

Kept in memory: by the store's owner, rebuilt at start from the first passage of every document; or as a copy of what
PostgreSQL holds, where several processes share the documents (shared_catalogue.py). While a document is replaced both
versions are on disk: the new one is hidden until the switch, the old one from then on. What a question may find, by its
caller's groups and filter, is an allowlist of versions made here: the database's own filter takes tens of milliseconds
per ten thousand passages. Written by one thread at a time; readers compare what refresh() says before and
after a query and ask again if it moved.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

from retrieval import filters
from retrieval.filters import Scalar, Where

_ANSWERS_KEPT = 64


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
    """The current version of a document. `digest` tells whether a new one would differ; `attributes` as stored."""

    info: DocumentInfo
    digest: str
    version: str
    attributes: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What a question may find. `passages`: how many; `share`: of all in the knowledge base, in [0, 1].
    `has` takes a version; `versions` are all of them with their passages, put together when asked for."""

    passages: int
    share: float
    has: Callable[[str], bool]
    versions: Callable[[], Mapping[str, int]]


@dataclass(slots=True)
class _Alike:
    """Visible documents that no filter tells apart, but by their source: version -> passages."""

    groups: frozenset[str]
    attributes: Mapping[str, Scalar]
    versions: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Catalogue:
    """Of one knowledge base. `entries` is by source."""

    entries: dict[str, Entry] = field(default_factory=dict)
    generation: int = 0
    _visible: dict[str, Entry] = field(default_factory=dict)  # by version
    _sizes: Counter[frozenset[str]] = field(default_factory=Counter)  # visible passages by the groups they are for
    _alike: dict[tuple[Any, ...], _Alike] = field(default_factory=dict)
    _answers: dict[tuple[frozenset[str], str], tuple[int, dict[str, int]]] = field(default_factory=dict)
    _sequence: int = 0

    @classmethod
    def of(cls, first_passages: Iterable[Mapping[str, Any]]) -> Self:
        """From the metadata of every first passage: of two versions of one document, the later one counts."""
        catalogue = cls()
        for row in sorted(first_passages, key=lambda row: int(row["sequence"])):
            groups = frozenset(key.removeprefix(filters.GROUP) for key in row if key.startswith(filters.GROUP))
            info = DocumentInfo(row["source"], row["title"], row["sha256"], row["chunks"], groups)
            attributes = {key: value for key, value in row.items() if key.startswith(filters.ATTRIBUTE)}
            catalogue.switch(Entry(info, row["digest"], row["version"], attributes))
            catalogue._sequence = int(row["sequence"])
        return catalogue

    def begin(self, source: str) -> str:
        """A new version, not visible until switch(). It ends in a number that is higher than those before it."""
        self._sequence += 1
        return self.named(source, self._sequence)

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
        alike = self._alike.setdefault(_kind(entry), _Alike(entry.info.groups, entry.attributes))
        alike.versions[entry.version] = entry.info.chunks
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
        self._answers.clear()  # it may have gone without having been condemned here: by another gateway

    def refresh(self) -> int:
        """Which state this is now: queries that saw the same one before and after have seen that one alone."""
        return self.generation

    def documents(self) -> list[DocumentInfo]:
        """Sorted by source."""
        return sorted((entry.info for entry in list(self.entries.values())), key=lambda info: info.source)

    def versions(self) -> dict[str, Entry]:
        """Every current version. Every other one on disk is left over."""
        return {entry.version: entry for entry in self.entries.values()}

    def visible(self, version: str) -> Entry | None:
        """The document, if this is its current version."""
        return self._visible.get(version)

    def allow(self, groups: frozenset[str], where: Where | None) -> Allowed:
        """What callers of these groups may find with this filter."""
        sizes = list(self._sizes.items())
        total = sum(size for _, size in sizes) or 1
        if where is not None:
            versions = self._passing(groups, where)
            passages = sum(versions.values())
            return Allowed(passages, passages / total, versions.__contains__, lambda: versions)
        passages = sum(size for of, size in sizes if not groups.isdisjoint(of))

        def has(version: str) -> bool:
            entry = self._visible.get(version)
            return entry is not None and not groups.isdisjoint(entry.info.groups)

        return Allowed(passages, passages / total, has, lambda: self._passing(groups, None))

    def _passing(self, groups: frozenset[str], where: Where | None) -> dict[str, int]:
        """Kept until a document changes: the same callers come back with the same filters."""
        key, generation = (groups, json.dumps(where)), self.generation
        known = self._answers.get(key)
        if known is not None and known[0] == generation:
            return known[1]
        found = self._look(groups, where)
        if len(self._answers) >= _ANSWERS_KEPT:
            self._answers.clear()
        self._answers[key] = (generation, found)
        return found

    def _look(self, groups: frozenset[str], where: Where | None) -> dict[str, int]:
        if where is not None and filters.reads_source(where):
            named = filters.sources(where)
            entries = self.entries.values() if named is None else map(self.entries.get, named)
            return {
                entry.version: entry.info.chunks
                for entry in list(entries)
                if entry is not None
                and entry.version in self._visible
                and not groups.isdisjoint(entry.info.groups)
                and filters.matches(where, {**entry.attributes, "source": entry.info.source})
            }
        found: dict[str, int] = {}
        for alike in list(self._alike.values()):
            if not groups.isdisjoint(alike.groups) and (where is None or filters.matches(where, alike.attributes)):
                found.update(alike.versions)
        return found

    def _hide(self, entry: Entry | None) -> None:
        if entry is not None and self._visible.pop(entry.version, None) is not None:
            self._sizes[entry.info.groups] -= entry.info.chunks
            kind = _kind(entry)
            del self._alike[kind].versions[entry.version]
            if not self._alike[kind].versions:
                del self._alike[kind]


def _kind(entry: Entry) -> tuple[Any, ...]:
    return entry.info.groups, *sorted((key, type(value), value) for key, value in entry.attributes.items())


def digest_of(sha256: str, metadata: Mapping[str, Scalar]) -> str:
    """Of all that makes a stored version: the bytes (their `sha256`), who may see them and the attributes."""
    return hashlib.sha256(json.dumps([sha256, metadata], sort_keys=True).encode()).hexdigest()
