"""Real Chroma in a temporary folder, the hashing embedder where meaning does not matter, MiniLM where it does."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retrieval.chunking import Chunker
from retrieval.embedder import Embedder, SentenceTransformerEmbedder
from retrieval.hashing import HashingEmbedder
from retrieval.model_folder import packaged_minilm
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.sandbox import Sandbox
from retrieval.store import Store


@pytest.fixture(scope="session")
def hashing() -> HashingEmbedder:
    return HashingEmbedder()


@pytest.fixture(scope="session")
def minilm() -> SentenceTransformerEmbedder:
    return SentenceTransformerEmbedder(packaged_minilm(), threads=2)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as shared:
        yield shared


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[[Embedder], Store]]:
    """Opens the test's store, as often as a test likes; an earlier opening is closed first."""
    opened: list[Store] = []

    def reopen(embedder: Embedder) -> Store:
        while opened:
            opened.pop().close()
        opened.append(Store(tmp_path / "store", embedder.fingerprint, embedder.dimensions))
        return opened[-1]

    yield reopen
    while opened:
        opened.pop().close()


@pytest.fixture
def store(open_store: Callable[[Embedder], Store], hashing: HashingEmbedder) -> Store:
    return open_store(hashing)


@pytest.fixture
def retriever(store: Store, hashing: HashingEmbedder) -> Retriever:
    return Retriever(store, hashing, Chunker(hashing.tokenizer, hashing.max_tokens))


@pytest.fixture
def me() -> Scope:
    return Scope("acme", frozenset({"everyone"}))
