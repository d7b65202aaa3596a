"""The catalogue of one knowledge base that several processes share: the truth is in PostgreSQL, a copy in each process.

Every change of a document gives the knowledge base a new generation and marks the document's row with it, in one
transaction. A copy follows by asking for the rows marked later than it has seen: one short question before a search,
and one after it that tells whether anything moved meanwhile.
"""

import json
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from retrieval.catalogue import Catalogue, DocumentInfo, Entry
from retrieval.errors import StoreFailed, UnknownKnowledge
from retrieval.postgres import Postgres, Row, Session
from retrieval.postgres_client import is_text
from retrieval.search import Base

# A deleted document leaves its row, without a version, so that copies learn of it.
_VISIBLE, _CONDEMNED, _GONE = "visible", "condemned", "gone"


class SharedCatalogue(Catalogue):
    """`id` is the knowledge base's in the database. Only refresh() changes what it holds."""

    def __init__(self, database: Postgres, id: int, knowledge: str) -> None:
        super().__init__()
        self._database, self._id, self._knowledge = database, id, knowledge
        self._seen = -1  # the generation that this copy is of
        self._applying = threading.Lock()

    @property
    def id(self) -> int:
        """The knowledge base's, in the database: one that was dropped and made again has another."""
        return self._id

    def refresh(self) -> int:
        """See Catalogue. Raises UnknownKnowledge if it was dropped."""
        rows = self._database.rows(
            "SELECT generation, source, title, sha256, digest, chunks, groups, attributes, version, state "
            "FROM bases LEFT JOIN documents ON base = id AND changed > %s WHERE id = %s AND NOT dropping",
            (self._seen, self._id),
        )
        if not rows:
            raise UnknownKnowledge(self._knowledge)
        generation = int(rows[0][0])
        with self._applying:
            if generation > self._seen:
                for _, source, *columns in rows:
                    if source is not None:
                        self._apply(source, *columns)
                self._seen = generation
            return self._seen

    def _apply(self, source: str, *columns: Any) -> None:
        title, sha256, digest, chunks, groups, attributes, version, state = columns
        if state == _GONE:
            self.remove(source)
            return
        info = DocumentInfo(source, title, sha256, chunks, frozenset(groups))
        self.switch(Entry(info, digest, version, json.loads(attributes)))
        if state == _CONDEMNED:
            self.condemn(source)


@dataclass(frozen=True, slots=True)
class SharedTurn:
    """See Turn. `session` holds the locks: if it is lost, so is the right to make new versions visible."""

    base: Base
    sources: Collection[str]
    catalogue: SharedCatalogue
    session: Session

    def current(self, source: str) -> Entry | None:
        """See Turn."""
        return self.catalogue.entries.get(source)

    def begin(self, chunks: Mapping[str, int]) -> dict[str, str]:
        """See Turn. What is noted is removed by somebody else if this process does not get to the end."""
        if not chunks:
            return {}
        with self.session.transaction():
            [(last,)] = self.session.rows(
                "UPDATE bases SET sequence = sequence + %s WHERE id = %s RETURNING sequence",
                (len(chunks), self.catalogue.id),
            )
            first = last - len(chunks) + 1
            versions = {source: self.catalogue.named(source, first + at) for at, source in enumerate(chunks)}
            self._note([(versions[source], source, size) for source, size in chunks.items()])
        return versions

    def switch(self, entries: Sequence[Entry]) -> None:
        """See Turn."""
        if not entries:
            return
        old = [known for entry in entries if (known := self.current(entry.info.source)) is not None]
        with self.session.transaction():
            generation = self._next_generation()
            if self._forget([entry.version for entry in entries]) != len(entries):
                raise StoreFailed("another gateway gave this version up in the meantime")
            self._note([(entry.version, entry.info.source, entry.info.chunks) for entry in old])
            write_entries(self.session, self.catalogue.id, entries, generation)
        self.catalogue.refresh()

    def condemn(self, source: str) -> None:
        """See Turn."""
        known = self.current(source)
        if known is not None:
            with self.session.transaction():
                self._set_state(_CONDEMNED, [known.version])
                self._note([(known.version, source, known.info.chunks)])
        self.catalogue.refresh()

    def erased(self, entries: Sequence[Entry]) -> None:
        """See Turn."""
        self.forget([entry.version for entry in entries])

    def forget(self, versions: Sequence[str]) -> None:
        """Versions that are not visible are gone from disk."""
        if versions:
            with self.session.transaction():
                self._set_state(_GONE, versions)
                self._forget(versions)
            self.catalogue.refresh()

    def leftovers(self) -> list[Entry]:
        """What may be on disk and must not be seen: its writers did not get to the end."""
        rows = self.session.rows(
            "SELECT version, source, chunks FROM leftovers WHERE base = %s AND source = ANY(%s)",
            (self.catalogue.id, list(self.sources)),
        )
        return [Entry(DocumentInfo(source, "", "", size, frozenset()), "", version) for version, source, size in rows]

    def _set_state(self, state: str, versions: Sequence[str]) -> None:
        """Of the documents of which these are the versions."""
        self.session.rows(
            "UPDATE documents SET state = %s, digest = '', changed = %s WHERE base = %s AND version = ANY(%s) "
            "AND source = ANY(%s)",
            (state, self._next_generation(), self.catalogue.id, list(versions), list(self.sources)),
        )

    def _next_generation(self) -> int:
        """Locks the knowledge base's row until the transaction ends, so that generations appear in order."""
        rows = self.session.rows(
            "UPDATE bases SET generation = generation + 1 WHERE id = %s RETURNING generation", (self.catalogue.id,)
        )
        return int(rows[0][0])

    def _note(self, versions: Sequence[tuple[str, str, int]]) -> None:
        names, sources, sizes = ([row[at] for row in versions] for at in range(3))
        self.session.rows(
            "INSERT INTO leftovers SELECT %s, * FROM unnest(%s::text[], %s::text[], %s::int[]) ON CONFLICT DO NOTHING",
            (self.catalogue.id, names, sources, sizes),
        )

    def _forget(self, versions: Sequence[str]) -> int:
        statement = "DELETE FROM leftovers WHERE base = %s AND version = ANY(%s)"
        return self.session.changed(statement, (self.catalogue.id, list(versions)))


def write_entries(session: Session, id: int, entries: Iterable[Entry], generation: int) -> None:
    """Makes these the visible versions of their documents."""
    for entry in entries:
        info = entry.info
        title = info.title if is_text(info.title) else info.source
        row: Row = (info.source, title, info.sha256, entry.digest, info.chunks, sorted(info.groups))
        more: Row = (json.dumps(dict(entry.attributes)), entry.version, _VISIBLE)
        session.rows(
            "INSERT INTO documents (base, changed, source, title, sha256, digest, chunks, groups, attributes, "
            "version, state) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (base, source) DO UPDATE SET title = excluded.title, sha256 = excluded.sha256, "
            "digest = excluded.digest, chunks = excluded.chunks, groups = excluded.groups, "
            "attributes = excluded.attributes, version = excluded.version, state = excluded.state, "
            "changed = excluded.changed",
            (id, generation, *row, *more),
        )
