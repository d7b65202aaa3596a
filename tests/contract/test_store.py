"""Versions, catalogue and scope on real Chroma, in one process; crashes and tenants have files of their own."""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.catalogue import DocumentInfo
from retrieval.chunking import Chunk
from retrieval.documents import Document, load
from retrieval.embedder import Embedder
from retrieval.errors import BadFilter, BadName, EmbedderMismatch, UnknownKnowledge
from retrieval.hashing import HashingEmbedder
from retrieval.rows import NewDocument
from retrieval.store import EVERYONE, Store

EMBEDDER = HashingEmbedder()
HR = frozenset({"hr"})


def vector(text: str) -> NDArray[np.float32]:
    row: NDArray[np.float32] = EMBEDDER.encode([text])[0]
    return row


def put(
    store: Store, source: str, *texts: str, tenant: str = "acme", groups: frozenset[str] = EVERYONE, **attributes: Any
) -> str:
    document = load(source, "\n".join(texts).encode())
    chunks = [Chunk(text, 0, len(text), "") for text in texts]
    new = NewDocument(document, chunks, EMBEDDER.encode(texts), groups, attributes)
    return store.replace_documents(tenant, "kb", [new])[0]


def found(
    store: Store, text: str, groups: frozenset[str] = EVERYONE, filter: dict[str, Any] | None = None
) -> list[str]:
    return [passage.text for passage in store.query("acme", "kb", vector(text), 50, groups, filter)]


def test_added_unchanged_updated_deleted(store: Store) -> None:
    assert put(store, "a.md", "annual leave", "sick leave") == "added"
    assert put(store, "a.md", "annual leave", "sick leave") == "unchanged"
    assert put(store, "b.md", "rain gauge") == "added"
    assert store.count() == 3
    assert put(store, "a.md", "parental leave") == "updated"
    assert sorted(found(store, "leave")) == ["parental leave", "rain gauge"]
    assert store.count() == 2
    assert put(store, "a.md", "annual leave", "sick leave") == "updated"  # back to a version that was there before
    assert store.delete_document("acme", "kb", "a.md") is True
    assert store.delete_document("acme", "kb", "a.md") is False
    assert found(store, "leave") == ["rain gauge"]
    assert put(store, "a.md", "annual leave", "sick leave") == "added"


def test_passages_are_complete_and_best_first(store: Store) -> None:
    document = Document("people/a.md", "Leave", "x annual leave y", "0" * 64)
    chunk = Chunk("annual leave", 2, 14, "Kinds > Annual")
    new = NewDocument(document, [chunk], EMBEDDER.encode([chunk.text]), EVERYONE)
    store.replace_documents("acme", "kb", [new])
    put(store, "b.md", "rain gauge")
    best, second = store.query("acme", "kb", vector("annual leave"), 4, EVERYONE)
    assert (best.source, best.title, best.heading, best.text) == (
        "people/a.md",
        "Leave",
        "Kinds > Annual",
        "annual leave",
    )
    assert (best.knowledge, best.start, best.end) == ("kb", 2, 14)
    assert best.score == pytest.approx(1.0, abs=1e-6) and best.score <= 1.0
    assert second.score == pytest.approx(float(vector("rain gauge") @ vector("annual leave")), abs=1e-5)
    assert len(store.query("acme", "kb", vector("leave"), 1, EVERYONE)) == 1
    opposite = store.query("acme", "kb", -vector("annual leave"), 4, EVERYONE)
    assert opposite[-1].score == pytest.approx(-1.0, abs=1e-6)


def test_groups_decide_who_sees_what(store: Store) -> None:
    put(store, "all.md", "leave for all")
    put(store, "hr.md", "leave for hr", groups=HR)
    put(store, "both.md", "leave for both", groups=HR | {"it"})
    assert found(store, "leave") == ["leave for all"]
    assert sorted(found(store, "leave", HR)) == ["leave for both", "leave for hr"]
    assert found(store, "leave", frozenset({"it", "nobody"})) == ["leave for both"]
    assert found(store, "leave", frozenset()) == []
    assert found(store, "leave", frozenset({"nobody"})) == []
    assert put(store, "all.md", "leave for all", groups=HR) == "updated"  # the same bytes for other eyes
    assert found(store, "leave") == []
    assert len(found(store, "leave", frozenset({f"g{n}" for n in range(3000)} | HR))) == 3


def test_many_groups_in_use_are_one_query(store: Store) -> None:
    groups = frozenset(f"g{n}" for n in range(1500))
    put(store, "a.md", "leave", groups=groups)
    assert found(store, "leave", groups) == ["leave"]


@pytest.mark.parametrize(
    ("filter", "expected"),
    [
        ({"source": "a.md"}, {"leave a"}),
        ({"year": {"$gte": 2024}}, {"leave b"}),
        ({"lang": {"$in": ["de", "fr"]}}, {"leave a"}),
        ({"$or": [{"year": 2023}, {"year": 2024}]}, {"leave a", "leave b"}),
        ({"lang": "de", "year": 2024}, set()),
        ({"$or": [{"group:hr": True}, {"year": {"$gt": 0}}]}, {"leave a", "leave b"}),
        ({"version": {"$ne": "x"}}, {"leave a", "leave b"}),
        ({"nothing": {"$ne": 1}}, {"leave a", "leave b"}),
    ],
)
def test_filters_narrow_within_the_scope(store: Store, filter: dict[str, Any], expected: set[str]) -> None:
    put(store, "a.md", "leave a", year=2023, lang="de")
    put(store, "b.md", "leave b", year=2024, lang="en")
    put(store, "c.md", "leave c", year=2024, lang="en", groups=HR)
    assert set(found(store, "leave", filter=filter)) == expected


def test_bad_filters_and_unknown_names(store: Store) -> None:
    with pytest.raises(UnknownKnowledge, match="no knowledge base 'kb'"):
        found(store, "leave")
    put(store, "a.md", "leave", tenant="other")
    for ask in (
        lambda: found(store, "x"),
        lambda: store.documents("acme", "kb"),
        lambda: store.drop_knowledge("acme", "kb"),
    ):
        with pytest.raises(UnknownKnowledge):
            ask()
    put(store, "a.md", "leave")
    with pytest.raises(BadFilter):
        found(store, "leave", filter={"$where": 1})
    with pytest.raises(BadName, match="tenant"):
        put(store, "a.md", "leave", tenant="a\0b")
    with pytest.raises(BadName, match="group"):
        put(store, "a.md", "leave", groups=frozenset())


def test_catalogue_lists_and_drops(store: Store) -> None:
    put(store, "b.md", "one", "two", groups=HR)
    put(store, "a.md", "three")
    assert [(info.source, info.chunks, info.groups) for info in store.documents("acme", "kb")] == [
        ("a.md", 1, EVERYONE), ("b.md", 2, HR),
    ]  # fmt: skip
    assert store.knowledge_bases("acme") == ["kb"]
    assert store.knowledge_bases("other") == []
    store.drop_knowledge("acme", "kb")
    assert (store.knowledge_bases("acme"), store.count()) == ([], 0)
    assert put(store, "a.md", "three") == "added"


def test_reopening_keeps_everything(open_store: Callable[[Embedder], Store]) -> None:
    store = open_store(EMBEDDER)
    put(store, "a.md", "old leave")
    put(store, "a.md", "annual leave", "sick leave", groups=HR, year=2024)
    before = store.documents("acme", "kb")
    store = open_store(EMBEDDER)
    assert store.documents("acme", "kb") == before == [
        DocumentInfo("a.md", "A", before[0].sha256, 2, HR),
    ]  # fmt: skip
    assert put(store, "a.md", "annual leave", "sick leave", groups=HR, year=2024) == "unchanged"
    assert sorted(found(store, "leave", HR, {"year": 2024})) == ["annual leave", "sick leave"]
    assert put(store, "a.md", "new leave", groups=HR) == "updated"
    assert found(store, "leave", HR) == ["new leave"]
    assert store.healthy()


def test_another_embedder_refuses_the_start(open_store: Callable[[Embedder], Store]) -> None:
    put(open_store(EMBEDDER), "a.md", "leave")
    other = HashingEmbedder(EMBEDDER.dimensions, max_tokens=32)  # the same dimensions: Chroma would accept it
    with pytest.raises(EmbedderMismatch, match="knowledge base 'kb' was built with another embedder"):
        open_store(other)
    assert found(open_store(EMBEDDER), "leave") == ["leave"]


def test_embeddings_must_fit_the_chunks(store: Store) -> None:
    document = load("a.md", b"leave")
    chunk = Chunk("leave", 0, 5, "")
    for chunks, embeddings in (
        ([chunk], np.ones((2, 256), np.float32)),
        ([chunk], np.ones((1, 8), np.float32)),
        ([], []),
    ):
        new = NewDocument(document, chunks, np.asarray(embeddings, np.float32), EVERYONE)
        with pytest.raises(ValueError, match="do not fit"):
            store.replace_documents("acme", "kb", [new])


def test_queries_see_exactly_one_version_while_a_document_changes(store: Store) -> None:
    texts = {version: [f"leave version {version} part {part}" for part in range(3)] for version in range(30)}
    put(store, "other.md", "leave other")
    put(store, "a.md", *texts[0])
    seen: list[list[str]] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            seen.append(sorted(text for text in found(store, "leave") if text != "leave other"))

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for version in range(1, 30):
        put(store, "a.md", *texts[version])
    stop.set()
    for reader in readers:
        reader.join()
    versions = [sorted(parts) for parts in texts.values()]
    assert len(seen) > 10
    assert [parts for parts in seen if parts not in versions] == []


def test_documents_together(store: Store) -> None:
    def new(source: str, *texts: str) -> NewDocument:
        chunks = [Chunk(text, 0, len(text), "") for text in texts]
        return NewDocument(load(source, "\n".join(texts).encode()), chunks, EMBEDDER.encode(texts), EVERYONE)

    put(store, "a.md", "annual leave", "sick leave")
    put(store, "b.md", "rain gauge")
    together = [new("b.md", "rain gauge"), new("a.md", "parental leave"), new("c.md", "snow", "ice")]
    assert store.replace_documents("acme", "kb", together) == ["unchanged", "updated", "added"]
    assert sorted(found(store, "leave")) == ["ice", "parental leave", "rain gauge", "snow"]
    assert store.replace_documents("acme", "kb", together) == ["unchanged"] * 3
    with pytest.raises(ValueError, match="one source"):
        store.replace_documents("acme", "kb", [new("d.md", "x"), new("d.md", "y")])
