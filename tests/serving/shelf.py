"""Peers of the gateway's documents: in memory, and in a real store with an embedder that needs no model."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from retrieval.chunking import Chunker
from retrieval.errors import UnreadableDocument
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.store import Store
from serving.access import File
from serving.ingestion import Job
from serving.remote import RemoteError
from serving.shelf import Shelf as Opened

SCOPE = Scope("local", frozenset({"everyone"}))


class Ready:
    """An Opening of what was opened before."""

    opened = True

    def __init__(self, opened: Opened) -> None:
        self._opened = opened

    def __call__(self) -> Opened:
        return self._opened


class Shelf:
    """Documents in memory. It refuses what begins with "bad", and everything while it is `closed`."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.puts: list[str] = []
        self.closed = False

    def put(self, knowledge: str, files: Sequence[File], groups: Sequence[str]) -> list[str | UnreadableDocument]:
        assert (knowledge, list(groups)) == ("books", ["everyone"])
        if self.closed:
            raise RemoteError("the gateway is away")
        return [self._put(source, data) for source, data in files]

    def _put(self, source: str, data: bytes) -> str | UnreadableDocument:
        self.puts.append(source)
        if data.startswith(b"bad"):
            return UnreadableDocument(source, "it is bad")
        old = self.held.get(source)
        self.held[source] = data
        return "added" if old is None else "unchanged" if old == data else "updated"

    def sources(self, knowledge: str) -> set[str]:
        assert knowledge == "books"
        return set(self.held)

    def remove(self, knowledge: str, source: str) -> None:
        assert knowledge == "books"
        del self.held[source]

    def search(self, knowledge: str, query: str, top_k: int) -> list[dict[str, Any]]:
        raise NotImplementedError((knowledge, query, top_k))


class Retrieved(Shelf):
    """A real store under documents for which no model is needed."""

    def __init__(self, retriever: Retriever, store: Store) -> None:
        super().__init__()
        self.retriever, self.store = retriever, store

    def put(self, knowledge: str, files: Sequence[File], groups: Sequence[str]) -> list[str | UnreadableDocument]:
        done = self.retriever.ingest_many(SCOPE, knowledge, files, frozenset(groups))
        return [one if isinstance(one, UnreadableDocument) else one.status for one in done]


@contextmanager
def open_retrieved(home: Path) -> Iterator[Retrieved]:
    embedder = HashingEmbedder()
    store = Store(home, embedder.fingerprint, embedder.dimensions)
    with closing(store):
        yield Retrieved(Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens)), store)


def job(path: Path, *, delete: bool = False) -> Job:
    return Job(path, "books", ("everyone",), 1000, delete)


def quiet() -> Console:
    return Console(quiet=True)
