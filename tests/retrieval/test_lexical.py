"""The contract of a lexical index, and what the store does to keep it equal to Chroma."""

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from retrieval.chunking import Chunk
from retrieval.documents import load
from retrieval.embedder import Embedder
from retrieval.hashing import HashingEmbedder
from retrieval.lexical import LexicalIndex, TantivyIndex
from retrieval.search import Base, Question, candidates
from retrieval.store import EVERYONE, Store

EMBEDDER = HashingEmbedder()

Open = Callable[[], LexicalIndex]


@pytest.fixture(params=[TantivyIndex.opened])
def open_index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the test's index; every implementation goes through this one suite."""
    opened: list[LexicalIndex] = []

    def reopen() -> LexicalIndex:
        while opened:
            opened.pop().close()
        opened.append(request.param(tmp_path / "index"))
        return opened[-1]

    yield reopen
    while opened:
        opened.pop().close()


@pytest.fixture
def index(open_index: Open) -> LexicalIndex:
    found = open_index()
    found.add({"a-1-0": "Annual leave is 28 days.", "a-1-1": "Carry over five days."}, "a-1")
    found.add({"b-1-0": "The rain gauge at Ångström station leaks."}, "b-1")
    return found


@pytest.mark.parametrize(
    ("question", "first"),
    [
        ("gauges leaking", "b-1-0"),  # stems
        ("LEAVE", "a-1-0"),
        ("angstrom", "b-1-0"),  # accents
        ("carrying days over the rain", "a-1-1"),
    ],
)
def test_finds_words_in_other_forms(index: LexicalIndex, question: str, first: str) -> None:
    assert next(iter(index.search(question, 5))) == first


@pytest.mark.parametrize(
    "question", ["", "the of", "???", 'text:"x" AND (id:a-1-0 OR', "zebra", "\0", "leave" * 100, "日本語"]
)
def test_no_shared_word_is_no_hit_and_a_question_is_no_query_language(index: LexicalIndex, question: str) -> None:
    assert index.search(question, 5) == {}
    assert index.score(question, ["a-1-0"]) == {}


def test_scores_are_bm25(open_index: Open) -> None:
    index = open_index()
    texts = {
        "x-1-0": "gauge gauge water",
        "x-1-1": "gauge water salt",
        "x-1-2": "water salt iron",
        "x-1-3": "iron salt tin",
    }
    index.add(texts, "x-1")

    def bm25(word: str, text: str) -> float:
        """Robertson's, with k1 1.2 and b 0.75; all texts are of one length, which therefore cancels out."""
        holding = sum(word in other.split() for other in texts.values())
        idf = math.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
        count = text.split().count(word)
        return idf * count * 2.2 / (count + 1.2)

    expected = {id: bm25("gauge", text) + bm25("iron", text) for id, text in texts.items()}
    assert index.search("gauge iron", 9) == pytest.approx(expected, rel=1e-5)
    assert list(index.search("gauge iron", 9)) == sorted(expected, key=lambda id: -expected[id])
    assert index.score("gauge iron", ["x-1-3", "x-1-0"]) == pytest.approx(
        {id: expected[id] for id in ("x-1-0", "x-1-3")}, rel=1e-5
    )
    assert len(index.search("gauge iron", 2)) == 2


def test_restricted_to_versions_finds_those_with_the_scores_of_all(index: LexicalIndex) -> None:
    index.add({"c-1-0": "Leave the gauge alone."}, "c-1")
    everywhere = index.search("leave gauge", 9)
    assert len(everywhere) == 3
    some = index.search("leave gauge", 9, {"b-1", "c-1", "gone-1"})
    assert some == {id: score for id, score in everywhere.items() if not id.startswith("a-")}
    assert list(index.search("leave gauge", 1, ["a-1"])) == ["a-1-0"]
    assert index.search("leave gauge", 9, []) == {}
    assert index.search("???", 9, ["a-1"]) == {}


def test_removed_versions_are_gone_and_sizes_tell_what_is_there(index: LexicalIndex, open_index: Open) -> None:
    assert index.sizes() == {"a-1": 2, "b-1": 1}
    index.remove(["a-1", "never-1"])
    index.add({"a-2-0": "Parental leave."}, "a-2")
    assert list(index.search("leave", 5)) == ["a-2-0"]
    assert open_index().sizes() == {"a-2": 1, "b-1": 1}


def test_more_versions_than_an_aggregation_takes(open_index: Open) -> None:
    index = open_index()
    for number in range(70_000):
        index.add({f"v-{number}-0": "leave"}, f"v-{number}")
    sizes = index.sizes()
    assert len(sizes) == 70_000 and set(sizes.values()) == {1}


def test_a_version_added_again_replaces_nothing_else(index: LexicalIndex) -> None:
    index.remove(["a-1"])
    index.add({"a-1-0": "Annual leave, again."}, "a-1")
    assert index.sizes() == {"a-1": 1, "b-1": 1}


def test_dropped_and_opened_again_is_empty(index: LexicalIndex, open_index: Open) -> None:
    index.drop()
    assert open_index().sizes() == {}


def test_threads_may_search_while_one_adds(index: LexicalIndex) -> None:
    def work(number: int) -> bool:
        if number % 4 == 0:
            index.add({f"n{number}-1-0": "more leave"}, f"n{number}-1")
        return "a-1-0" in index.search("annual leave", 5)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(64)))
    assert len(index.sizes()) == 2 + 16


def put(store: Store, source: str, *texts: str) -> None:
    chunks = [Chunk(text, 0, len(text), "") for text in texts]
    store.replace_document("acme", "kb", load(source, "\n".join(texts).encode()), chunks, EMBEDDER.encode(texts))


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
