"""The catalogue of one knowledge base that several processes share: the truth is in PostgreSQL, a copy in each process.

Every change of a document gives the knowledge base a new generation and marks the document's row with it, in one
transaction. A copy follows by asking for the rows marked later than it has seen: one short question before a search,
and one after it that tells whether anything moved meanwhile.
"""

import threading
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from retrieval.catalogue import Catalogue, DocumentInfo, Entry
from retrieval.errors import StoreFailed, UnknownKnowledge
from retrieval.postgres import Postgres, Row, Session, is_text
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
            "SELECT generation, source, title, sha256, digest, chunks, groups, version, state "
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
        title, sha256, digest, chunks, groups, version, state = columns
        if state == _GONE:
            self.remove(source)
            return
        info = DocumentInfo(source, title, sha256, chunks, frozenset(groups))
        self.switch(Entry(info, digest, version))
        if state == _CONDEMNED:
            self.condemn(source)


@dataclass(frozen=True, slots=True)
class SharedChange:
    """See Change. `session` holds the lock: if it is lost, so is the right to make the new version visible."""

    base: Base
    source: str
    catalogue: SharedCatalogue
    session: Session

    @property
    def current(self) -> Entry | None:
        """See Change."""
        return self.catalogue.entries.get(self.source)

    def begin(self, chunks: int) -> tuple[str, int]:
        """See Change. What is noted is removed by somebody else if this process does not get to the end."""
        with self.session.transaction():
            [(sequence,)] = self.session.rows(
                "UPDATE bases SET sequence = sequence + 1 WHERE id = %s RETURNING sequence", (self.catalogue.id,)
            )
            version = self.catalogue.named(self.source, sequence)
            self._note(version, chunks)
        return version, sequence

    def switch(self, entry: Entry) -> None:
        """See Change."""
        old = self.current
        with self.session.transaction():
            generation = self._next_generation()
            if not self._forget(entry.version):
                raise StoreFailed("another gateway gave this version up in the meantime")
            if old is not None:
                self._note(old.version, old.info.chunks)
            write_entries(self.session, self.catalogue.id, [entry], generation)
        self.catalogue.refresh()

    def condemn(self) -> None:
        """See Change."""
        if self.current is not None:
            with self.session.transaction():
                self._set_state(_CONDEMNED, self.current.version)
                self._note(self.current.version, self.current.info.chunks)
        self.catalogue.refresh()

    def erased(self, entry: Entry) -> None:
        """See Change."""
        self.forget(entry.version)

    def forget(self, version: str) -> None:
        """A version that is not visible is gone from disk."""
        with self.session.transaction():
            self._set_state(_GONE, version)
            self._forget(version)
        self.catalogue.refresh()

    def leftovers(self) -> list[tuple[str, int]]:
        """(version, passages) that may be on disk and must not be seen: their writers did not get to the end."""
        rows = self.session.rows(
            "SELECT version, chunks FROM leftovers WHERE base = %s AND source = %s", (self.catalogue.id, self.source)
        )
        return [(version, chunks) for version, chunks in rows]

    def _set_state(self, state: str, version: str) -> None:
        """Of the document, if this is its version."""
        known = self.current
        if known is not None and known.version == version:
            self.session.rows(
                "UPDATE documents SET state = %s, digest = '', changed = %s WHERE base = %s AND source = %s",
                (state, self._next_generation(), self.catalogue.id, self.source),
            )

    def _next_generation(self) -> int:
        """Locks the knowledge base's row until the transaction ends, so that generations appear in order."""
        rows = self.session.rows(
            "UPDATE bases SET generation = generation + 1 WHERE id = %s RETURNING generation", (self.catalogue.id,)
        )
        return int(rows[0][0])

    def _note(self, version: str, chunks: int) -> None:
        self.session.rows(
            "INSERT INTO leftovers VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (self.catalogue.id, version, self.source, chunks),
        )

    def _forget(self, version: str) -> bool:
        statement = "DELETE FROM leftovers WHERE base = %s AND version = %s"
        return self.session.changed(statement, (self.catalogue.id, version)) == 1


def write_entries(session: Session, id: int, entries: Iterable[Entry], generation: int) -> None:
    """Makes these the visible versions of their documents."""
    for entry in entries:
        info = entry.info
        title = info.title if is_text(info.title) else info.source
        row: Row = (info.source, title, info.sha256, entry.digest, info.chunks, sorted(info.groups), entry.version)
        session.rows(
            "INSERT INTO documents (base, changed, source, title, sha256, digest, chunks, groups, version, state) "
            "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s) "
            "ON CONFLICT (base, source) DO UPDATE SET title = excluded.title, sha256 = excluded.sha256, "
            "digest = excluded.digest, chunks = excluded.chunks, groups = excluded.groups, version = excluded.version, "
            "state = excluded.state, changed = excluded.changed",
            (id, generation, *row, _VISIBLE),
        )
