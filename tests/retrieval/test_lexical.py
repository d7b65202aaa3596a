"""What the store does to keep the lexical index on disk equal to Chroma. Its contract: tests/contract."""

from collections.abc import Callable
from pathlib import Path

import pytest

from retrieval.chunking import Chunk
from retrieval.documents import load
from retrieval.embedder import Embedder
from retrieval.hashing import HashingEmbedder
from retrieval.lexical import TantivyIndex
from retrieval.rows import NewDocument
from retrieval.search import Base, Question, candidates
from retrieval.store import EVERYONE, Store

EMBEDDER = HashingEmbedder()


def test_more_versions_than_an_aggregation_takes(tmp_path: Path) -> None:
    index = TantivyIndex.opened(tmp_path / "index")
    try:
        for number in range(70_000):
            index.add({f"v-{number}-0": "leave"}, f"v-{number}")
        sizes = index.sizes()
        assert len(sizes) == 70_000 and set(sizes.values()) == {1}
    finally:
        index.close()


def put(store: Store, source: str, *texts: str) -> None:
    chunks = [Chunk(text, 0, len(text), "") for text in texts]
    new = NewDocument(load(source, "\n".join(texts).encode()), chunks, EMBEDDER.encode(texts), EVERYONE)
    store.replace_documents("acme", "kb", [new])


def by_words(store: Store, words: str, groups: frozenset[str] = EVERYONE) -> list[str]:
    question = Question(words, EMBEDDER.encode([words])[0], groups, mode="lexical")

    def texts(base: Base) -> list[str]:
        rows = base.vectors.rows(candidates(base, question).ranked)
        return sorted(text for text, _ in rows.values())

    return store.read("acme", "kb", texts)


def two_documents(store: Store) -> None:
    put(store, "a.md", "old leave")
    put(store, "a.md", "annual leave", "sick leave")
    put(store, "b.md", "leave for b")


BOTH = ["annual leave", "leave for b", "sick leave"]


def test_the_index_follows_the_documents(store: Store) -> None:
    two_documents(store)
    assert by_words(store, "leave") == BOTH
    store.delete_document("acme", "kb", "a.md")
    assert by_words(store, "leave") == ["leave for b"]
    store.drop_knowledge("acme", "kb")
    put(store, "c.md", "leave for c")
    assert by_words(store, "leave") == ["leave for c"]


@pytest.mark.parametrize("damage", ["none", "erased", "truncated", "a version lost", "one too many"])
def test_at_the_start_the_index_is_made_to_hold_what_chroma_holds(
    open_store: Callable[[Embedder], Store], tmp_path: Path, damage: str
) -> None:
    store = open_store(EMBEDDER)
    two_documents(store)
    store.close()
    [folder] = (tmp_path / "store" / "lexical").iterdir()
    if damage == "erased":
        TantivyIndex(folder).drop()
    elif damage == "truncated":
        for file in folder.rglob("*"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif damage != "none":
        index = TantivyIndex.opened(folder)
        if damage == "a version lost":
            index.remove(list(index.sizes())[:1])
        else:
            index.add({"ghost-1-0": "leave of a ghost"}, "ghost-1")
        index.close()
    reopened = Store(tmp_path / "store", EMBEDDER.fingerprint, EMBEDDER.dimensions)
    try:
        assert by_words(reopened, "leave") == BOTH
    finally:
        reopened.close()
