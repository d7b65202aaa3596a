"""The knowledge bases that several processes share: catalogue and words in PostgreSQL, vectors in one Chroma.

A document's turn is a lock in the database, so it ends with the process that has it. Before a version is written to
Chroma its name is noted; the note goes in the transaction that makes it visible. So what an interrupted writer left is
never seen, and whoever comes next to the document, or starts, removes it. Knowledge bases are made and dropped under a
lock that the writers of their documents share.
"""

import hashlib
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress

from retrieval.bases import collection_name, described, erase, recover, synchronise
from retrieval.errors import BadName, EmbedderMismatch, UnknownKnowledge, VectorsElsewhere
from retrieval.exact import ExactScores
from retrieval.filters import is_name
from retrieval.postgres import Postgres, Session
from retrieval.postgres_client import is_text
from retrieval.search import Base
from retrieval.shared_catalogue import SharedCatalogue, SharedTurn, write_entries
from retrieval.shared_lexical import PostgresIndex
from retrieval.vectors import ChromaDatabase, ChromaVectors, mapped_errors

_WRITERS = 6  # of this process; each takes a connection and needs another


class SharedBases:
    """See Bases. Opening takes in what Chroma holds and the database does not know, and mends what others left.

    Raises EmbedderMismatch, VectorsElsewhere."""

    def __init__(self, chroma: ChromaDatabase, database: Postgres, fingerprint: str) -> None:
        self._chroma, self._database, self._fingerprint = chroma, database, fingerprint
        self._open: dict[tuple[str, str], Base] = {}
        self._writers = threading.BoundedSemaphore(_WRITERS)
        self._stilling = threading.Lock()
        for knowledge, stored in database.rows("SELECT knowledge, fingerprint FROM bases ORDER BY id"):
            if stored != fingerprint:
                raise EmbedderMismatch(knowledge, stored, fingerprint)
        self._finish_drops()
        self._adopt()
        self._repair()

    def find(self, tenant: str, knowledge: str) -> Base:
        """See Bases."""
        base = self._opened(tenant, knowledge)
        if base is None:
            raise UnknownKnowledge(knowledge)
        return base

    @contextmanager
    def turn(
        self, tenant: str, knowledge: str, sources: Collection[str], *, create: bool = False
    ) -> Iterator[SharedTurn]:
        """See Bases."""
        for source in sources:
            if not is_text(source):
                raise BadName("document", source, "PostgreSQL takes no zero bytes and no broken Unicode; rename it")
        with self._writers, self._database.session() as session:
            try:
                base = self._held(session, tenant, knowledge, create=create)
                # In one order, so that two who want the same documents never wait for each other.
                for key in sorted(_key("document", tenant, knowledge, source) for source in sources):
                    session.lock(key)
                yield self._begun(session, base, sources)
            finally:
                session.unlock_all()

    @contextmanager
    def still(self, base: Base) -> Iterator[None]:
        """See Bases."""
        with self._stilling, self._database.transaction() as session:
            session.rows("SELECT 1 FROM bases WHERE id = %s FOR NO KEY UPDATE", (_catalogue(base).id,))
            yield

    def drop(self, tenant: str, knowledge: str) -> None:
        """See Bases."""
        with self._database.session() as session:
            try:
                session.lock(_key("knowledge", tenant, knowledge))
                id = _catalogue(self.find(tenant, knowledge)).id
                session.rows("UPDATE bases SET dropping = true WHERE id = %s", (id,))
                self._finish_drop(session, id, tenant, knowledge)
            finally:
                session.unlock_all()

    def names(self, tenant: str) -> list[str]:
        """See Bases."""
        rows = self._database.rows(
            'SELECT knowledge FROM in_use WHERE tenant = %s ORDER BY knowledge COLLATE "C"', (tenant,)
        )
        return [knowledge for (knowledge,) in rows]

    def every(self) -> list[tuple[str, str]]:
        """See Bases."""
        return sorted(
            (tenant, knowledge) for tenant, knowledge in self._database.rows("SELECT tenant, knowledge FROM in_use")
        )

    def count(self) -> int:
        """See Bases."""
        rows = self._database.rows(
            "SELECT coalesce(sum(chunks), 0) FROM documents JOIN in_use ON id = base WHERE state <> 'gone'"
        )
        return int(rows[0][0])

    def healthy(self) -> bool:
        """See Bases."""
        return self._database.healthy()

    def close(self) -> None:
        """See Bases."""
        self._database.close()

    def _opened(self, tenant: str, knowledge: str) -> Base | None:
        if not (is_name(tenant) and is_name(knowledge)):
            return None
        rows = self._database.rows(
            "SELECT id, collection FROM in_use WHERE tenant = %s AND knowledge = %s", (tenant, knowledge)
        )
        known = self._open.get((tenant, knowledge))
        if not rows:
            self._open.pop((tenant, knowledge), None)
            return None
        id, collection = rows[0]
        if known is not None and _catalogue(known).id == id:
            return known
        try:
            with mapped_errors(knowledge):
                vectors = self._chroma.open(collection_name(tenant, knowledge))
        except UnknownKnowledge:
            vectors = None
        if vectors is None or vectors.id != collection:
            if not self._database.rows("SELECT 1 FROM in_use WHERE id = %s", (id,)):
                return None  # dropped just now
            raise VectorsElsewhere(knowledge)
        base = self._open[tenant, knowledge] = self._base(id, knowledge, vectors)
        return base

    def _base(self, id: int, knowledge: str, vectors: ChromaVectors) -> Base:
        catalogue = SharedCatalogue(self._database, id, knowledge)
        return Base(knowledge, vectors, catalogue, PostgresIndex(self._database, id), ExactScores(vectors))

    def _held(self, session: Session, tenant: str, knowledge: str, *, create: bool) -> Base:
        """A knowledge base that nobody drops as long as the session lasts."""
        key = _key("knowledge", tenant, knowledge)
        session.lock(key, shared=True)
        base = self._opened(tenant, knowledge)
        if base is None and create:
            session.unlock(key, shared=True)
            session.lock(key)
            base = self._opened(tenant, knowledge) or self._made(session, tenant, knowledge)
            session.lock(key, shared=True)
            session.unlock(key)
        if base is None:
            raise UnknownKnowledge(knowledge)
        return base

    def _made(self, session: Session, tenant: str, knowledge: str) -> Base:
        """A new knowledge base, with what Chroma holds of it: nothing, unless the database is newer than Chroma."""
        about = described(tenant, knowledge, self._fingerprint)
        for id, dropping in session.rows(
            "SELECT id, dropping FROM bases WHERE tenant = %s AND knowledge = %s", (tenant, knowledge)
        ):
            if dropping:
                self._finish_drop(session, id, tenant, knowledge)
        session.rows(
            "INSERT INTO bases (tenant, knowledge, fingerprint) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (tenant, knowledge, self._fingerprint),
        )
        [(id,)] = session.rows("SELECT id FROM bases WHERE tenant = %s AND knowledge = %s", (tenant, knowledge))
        vectors = self._chroma.create(collection_name(tenant, knowledge), about, reuse=True)
        found = recover(vectors)
        base = self._base(id, knowledge, vectors)
        with session.transaction():
            write_entries(session, id, found.entries.values(), 0)
            session.rows("UPDATE bases SET sequence = %s WHERE id = %s", (found.last_sequence, id))
        base.catalogue.refresh()
        synchronise(base)
        session.rows("UPDATE bases SET collection = %s WHERE id = %s", (vectors.id, id))
        self._open[tenant, knowledge] = base
        return base

    def _begun(self, session: Session, base: Base, sources: Collection[str]) -> SharedTurn:
        turn = SharedTurn(base, sources, _catalogue(base), session)
        turn.catalogue.refresh()
        left = turn.leftovers()
        if left:
            erase(base, left)
            turn.erased(left)
        return turn

    def _finish_drop(self, session: Session, id: int, tenant: str, knowledge: str) -> None:
        """Chroma first: until the row is gone, too, somebody will finish this."""
        self._chroma.drop(collection_name(tenant, knowledge), missing_ok=True)
        session.rows("DELETE FROM bases WHERE id = %s", (id,))
        self._open.pop((tenant, knowledge), None)

    def _finish_drops(self) -> None:
        for id, tenant, knowledge in self._database.rows("SELECT id, tenant, knowledge FROM bases WHERE dropping"):
            with self._database.session() as session:
                if session.try_lock(_key("knowledge", tenant, knowledge)):
                    try:
                        self._finish_drop(session, id, tenant, knowledge)
                    finally:
                        session.unlock_all()

    def _adopt(self) -> None:
        """Knowledge bases of a Chroma that was used without this database, or whose database was lost."""
        known = self._database.rows("SELECT tenant, knowledge FROM bases WHERE collection IS NOT NULL OR dropping")
        held = self._chroma.collections()
        for tenant, knowledge in known:
            if collection_name(tenant, knowledge) not in held:
                self._opened(tenant, knowledge)  # raises, if it was not dropped just now
        for name, about in held.items():
            place = (str(about.get("tenant")), str(about.get("knowledge")))
            if place in known or name != collection_name(*place):
                continue
            if about.get("fingerprint") != self._fingerprint:
                raise EmbedderMismatch(place[1], str(about.get("fingerprint", "none")), self._fingerprint)
            with self._database.session() as session:
                try:
                    self._held(session, *place, create=True)
                finally:
                    session.unlock_all()

    def _repair(self) -> None:
        """What writers left that did not get to the end. Who is still writing is left alone."""
        for tenant, knowledge, source in self._database.rows(
            "SELECT DISTINCT tenant, knowledge, source FROM leftovers JOIN in_use ON id = base"
        ):
            with self._database.session() as session, suppress(UnknownKnowledge):
                try:
                    base = self._held(session, tenant, knowledge, create=False)
                    if session.try_lock(_key("document", tenant, knowledge, source)):
                        self._begun(session, base, [source])
                finally:
                    session.unlock_all()


def _catalogue(base: Base) -> SharedCatalogue:
    if not isinstance(base.catalogue, SharedCatalogue):
        raise TypeError("a knowledge base of another store")
    return base.catalogue


def _key(*parts: str) -> int:
    """A lock's number. Two names with one number would wait for each other, no more."""
    digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], signed=True)
