"""A store on disk as it was written before: rows that repeated everything, an index searched less widely."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import chromadb
from chromadb.config import Settings

from retrieval.chunking import Chunk
from retrieval.documents import load
from retrieval.embedder import Embedder
from retrieval.hashing import HashingEmbedder
from retrieval.rows import NewDocument
from retrieval.store import EVERYONE, Store

EMBEDDER = HashingEmbedder()


def put(store: Store, source: str, text: str, **attributes: Any) -> str:
    chunk, document = Chunk(text, 0, len(text), ""), load(source, text.encode())
    new = NewDocument(document, [chunk], EMBEDDER.encode([text]), EVERYONE, attributes)
    return store.replace_documents("acme", "kb", [new])[0]


def found(store: Store, text: str, filter: dict[str, Any] | None = None) -> list[str]:
    passages = store.query("acme", "kb", EMBEDDER.encode([text])[0], 50, EVERYONE, filter)
    return [passage.text for passage in passages]


def test_a_collection_of_before_is_read_and_searched_as_widely(
    open_store: Callable[[Embedder], Store], tmp_path: Path
) -> None:
    """Rows that repeat everything, texts as Chroma's documents, and an index with Chroma's own width."""
    store = open_store(EMBEDDER)
    put(store, "new.md", "rain gauge", year=2026)
    store.close()
    about: dict[str, Any] = {
        "source": "old.md", "title": "Old", "sha256": "0", "version": "f-7", "digest": "0", "sequence": 7,
        "chunks": 2, "group:everyone": True, "attr:year": 2024, "start": 0, "end": 9, "heading": "",
    }  # fmt: skip
    texts = ["annual leave", "sick leave"]
    with chroma(tmp_path / "store") as collection:
        assert collection.configuration["hnsw"]["ef_search"] > 100
        collection.modify(configuration={"hnsw": {"ef_search": 100}})
        rows = [{**about, "index": index} for index in range(2)]
        collection.add(ids=["f-7-0", "f-7-1"], embeddings=EMBEDDER.encode(texts), documents=texts, metadatas=rows)
    store = open_store(EMBEDDER)
    assert found(store, "sick leave", filter={"year": 2024}) == ["sick leave", "annual leave"]
    [best] = store.query("acme", "kb", EMBEDDER.encode(["sick leave"])[0], 1, EVERYONE)
    assert (best.source, best.title) == ("old.md", "Old")
    assert put(store, "old.md", "parental leave") == "updated"
    assert sorted(found(store, "leave")) == ["parental leave", "rain gauge"]
    store.close()
    with chroma(tmp_path / "store") as collection:
        assert collection.configuration["hnsw"]["ef_search"] > 100


@contextmanager
def chroma(path: Path) -> Iterator[Any]:
    """The only collection of a store, without the store."""
    client: Any = chromadb.PersistentClient(str(path), settings=Settings(anonymized_telemetry=False))
    with closing(client):
        [collection] = client.list_collections()
        yield collection
