"""How a document lies in the vector database: one row for each passage, and in the first all that is known about it.

Writing a row costs by its columns. So the others hold their place and text only; title and source come from the
catalogue, which is read from the first rows. Rows written before 2026-11-20 repeat everything, and are read too.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from retrieval import filters
from retrieval.catalogue import DocumentInfo, Entry, digest_of
from retrieval.chunking import Chunk
from retrieval.documents import Document
from retrieval.filters import Scalar
from retrieval.lexical import lexical_text


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A document ready to be stored: its passages with their `embeddings`, (len(chunks), dimensions)."""

    document: Document
    chunks: Sequence[Chunk]
    embeddings: NDArray[np.float32]
    groups: frozenset[str]
    attributes: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Change:
    """A new version of a document. `stored`: its groups and attributes as metadata."""

    new: NewDocument
    entry: Entry
    stored: Mapping[str, Scalar]

    @classmethod
    def of(cls, new: NewDocument, version: str) -> "Change":
        """Raises BadName for a group or attribute that cannot be stored."""
        document = new.document
        info = DocumentInfo(document.source, document.title, document.sha256, len(new.chunks), new.groups)
        attributes = filters.stored_attributes(new.attributes)
        stored = filters.stored_groups(new.groups) | attributes
        return cls(new, Entry(info, digest_of(document.sha256, stored), version, attributes), stored)

    def named(self, versions: Mapping[str, str]) -> "Change":
        """The same under its own version's name; `versions` by source."""
        return replace(self, entry=replace(self.entry, version=versions[self.entry.info.source]))

    @property
    def words(self) -> dict[str, str]:
        """What the lexical index is given, by passage id."""
        title = self.new.document.title
        texts = (lexical_text(title, chunk.heading, chunk.text) for chunk in self.new.chunks)
        return dict(zip(passage_ids(self.entry), texts, strict=True))

    def rows(self) -> Iterator["Row"]:
        """In order; the first one makes the version exist."""
        ids, vectors = passage_ids(self.entry), self.new.embeddings
        for index, (id, chunk, vector) in enumerate(zip(ids, self.new.chunks, vectors, strict=True)):
            place: dict[str, Scalar] = {
                "index": index,
                "start": chunk.start,
                "end": chunk.end,
                "heading": chunk.heading,
            }
            yield Row(id, vector, chunk.text, place if index else {**self._about(), **place})

    def _about(self) -> dict[str, Scalar]:
        info, version = self.entry.info, self.entry.version
        about: dict[str, Scalar] = {"source": info.source, "title": info.title, "sha256": info.sha256}
        number = int(version.rpartition("-")[2])
        return {
            **self.stored,
            **about,
            "version": version,
            "digest": self.entry.digest,
            "sequence": number,
            "chunks": info.chunks,
        }


@dataclass(frozen=True, slots=True)
class Row:
    """One passage as the vector database takes it."""

    id: str
    vector: NDArray[np.float32]
    text: str
    metadata: Mapping[str, Scalar]


def passage_ids(entry: Entry) -> list[str]:
    """Of all passages of a version, in order."""
    return [f"{entry.version}-{index}" for index in range(entry.info.chunks)]
