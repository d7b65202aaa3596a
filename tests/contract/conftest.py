"""The places where documents can be: in a folder of ours, on servers, or half and half. Each must do the same."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retrieval.embedder import Embedder
from retrieval.hashing import HashingEmbedder
from retrieval.postgres import Postgres
from retrieval.store import Servers, Store
from retrieval.vectors import ChromaServer
from tests.servers import empty_chroma

PLACES = ["embedded", "chroma server", "postgresql", "both servers"]
OpenStore = Callable[[Embedder], Store]


@pytest.fixture(params=PLACES)
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the test's store, as often as a test likes; an earlier opening is closed first."""
    chroma = database = None
    if request.param in ("chroma server", "both servers"):
        chroma = ChromaServer(request.getfixturevalue("chroma_url"))
        empty_chroma(chroma.url)
    if request.param in ("postgresql", "both servers"):
        cluster = request.getfixturevalue("postgres")
        cluster.empty()
        database = cluster.url()
    opened: list[Store] = []

    def reopen(embedder: Embedder) -> Store:
        while opened:
            opened.pop().close()
        servers = Servers(chroma, Postgres(database) if database else None)
        opened.append(Store(tmp_path / "store", embedder.fingerprint, embedder.dimensions, servers=servers))
        return opened[-1]

    yield reopen
    while opened:
        opened.pop().close()


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    embedder = HashingEmbedder()
    return open_store(embedder)
