"""From bytes to passages and back, with the embedder that needs no model."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.chunking import Chunker
from retrieval.embedder import BATCH, Embedder, SentenceTransformerEmbedder
from retrieval.errors import BadFilter, UnknownKnowledge, UnreadableDocument
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.store import Store

LEAVE = b"# Annual leave\n\nEverybody has 28 days.\n\n## Carry over\n\nFive days move to the next year.\n"


class Recording(HashingEmbedder):
    """Keeps the texts of every encode call."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(list(texts))
        return super().encode(texts)


@pytest.fixture
def recording(store: Store) -> tuple[Retriever, Recording]:
    embedder = Recording()
    return Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens)), embedder


def test_ingest_search_remove(retriever: Retriever, me: Scope) -> None:
    done = retriever.ingest(me, "hb", "people/leave.md", LEAVE)
    assert (done.source, done.status, done.chunks) == ("people/leave.md", "added", 2)
    assert done.seconds > 0
    answer = retriever.search(me, "hb", "carry over five days", 4, 0.0)
    best = answer.passages[0]
    assert (best.source, best.title, best.heading) == ("people/leave.md", "Annual leave", "Carry over")
    assert LEAVE.decode()[best.start : best.end] == best.text
    assert answer.best_score == best.score
    assert answer.embed_seconds > 0 and answer.search_seconds > 0
    assert retriever.remove(me, "hb", "people/leave.md") is True
    assert retriever.search(me, "hb", "carry over", 4, -1.0).passages == ()
    assert retriever.search(me, "hb", "carry over", 4, -1.0).best_score is None


def test_min_score_cuts_but_the_best_score_is_told(retriever: Retriever, me: Scope) -> None:
    retriever.ingest(me, "hb", "leave.md", LEAVE)
    everything = retriever.search(me, "hb", "annual leave days", 4, -1.0)
    best, second = everything.passages
    assert best.score > second.score
    assert retriever.search(me, "hb", "annual leave days", 4, best.score).passages == (best,)
    nothing = retriever.search(me, "hb", "annual leave days", 4, best.score + 0.01)
    assert (nothing.passages, nothing.best_score) == ((), best.score)


def test_many_documents_are_as_if_each_came_alone(recording: tuple[Retriever, Recording], me: Scope) -> None:
    retriever, embedder = recording
    retriever.ingest(me, "hb", "old.md", b"old words")
    retriever.ingest(me, "hb", "same.md", b"same words")
    embedder.calls.clear()
    files = [("same.md", b"same words"), ("leave.md", LEAVE), ("bad.md", b""), ("old.md", b"new words")]
    same, leave, bad, old = retriever.ingest_many(me, "hb", files)
    assert isinstance(bad, UnreadableDocument) and "it is empty" in str(bad)
    done = [one for one in (same, leave, old) if not isinstance(one, UnreadableDocument)]
    assert [(one.source, one.status, one.chunks) for one in done] == [
        ("same.md", "unchanged", 1),
        ("leave.md", "added", 2),
        ("old.md", "updated", 1),
    ]
    assert [len(call) for call in embedder.calls] == [3]
    answer = retriever.search(me, "hb", "new words", 9, -1.0)
    assert (answer.passages[0].source, answer.passages[0].text) == ("old.md", "new words")
    assert {passage.source for passage in answer.passages} == {"old.md", "same.md", "leave.md"}
    assert retriever.ingest_many(me, "hb", []) == []


def test_an_unchanged_document_is_not_embedded_again(recording: tuple[Retriever, Recording], me: Scope) -> None:
    retriever, embedder = recording
    retriever.ingest(me, "hb", "leave.md", LEAVE)
    embedder.calls.clear()
    again = retriever.ingest(me, "hb", "leave.md", LEAVE)
    assert (again.status, again.chunks, embedder.calls) == ("unchanged", 2, [])
    other_eyes = retriever.ingest(me, "hb", "leave.md", LEAVE, frozenset({"hr"}))
    assert (other_eyes.status, len(embedder.calls)) == ("updated", 1)
    assert retriever.ingest(me, "hb", "leave.md", LEAVE, frozenset({"hr"}), {"year": 1}).status == "updated"


def test_embeds_title_and_headings_in_batches_by_length(recording: tuple[Retriever, Recording], me: Scope) -> None:
    retriever, embedder = recording
    sections = [f"## Part {n}\n\nbeginning{n} " + "word " * (n * 7 % 40) for n in range(70)]
    retriever.ingest(me, "hb", "long.md", ("# Long\n\n" + "\n\n".join(sections)).encode())
    assert [len(call) for call in embedder.calls] == [BATCH] * (70 // BATCH) + [70 % BATCH]
    lengths = embedder.count_tokens([text for call in embedder.calls for text in call])
    assert lengths == sorted(lengths)
    assert all(text.startswith("Long > Part ") for call in embedder.calls for text in call)
    for text in [text for call in embedder.calls for text in call][::9]:  # sorting did not mix up the vectors
        best = retriever.search(me, "hb", text, 1, -1.0).passages[0]
        assert text.endswith(best.text) and best.score > 0.999


def test_a_long_question_is_cut_to_its_end(recording: tuple[Retriever, Recording], me: Scope) -> None:
    retriever, embedder = recording
    retriever.ingest(me, "hb", "leave.md", LEAVE)
    embedder.calls.clear()
    retriever.search(me, "hb", "log line " * 500 + "how many days do I carry over?", 4, 0.0)
    [[embedded]] = embedder.calls
    assert embedded.endswith("log line how many days do I carry over?")
    assert embedder.count_tokens([embedded]) == [embedder.max_tokens]


@pytest.mark.parametrize("top_k", [0, -1, 101])
def test_top_k_has_limits(retriever: Retriever, me: Scope, top_k: int) -> None:
    with pytest.raises(BadFilter, match="top_k"):
        retriever.search(me, "hb", "leave", top_k, 0.0)


def test_errors_are_named(retriever: Retriever, me: Scope) -> None:
    with pytest.raises(UnknownKnowledge):
        retriever.search(me, "nope", "leave", 4, 0.0)
    with pytest.raises(UnknownKnowledge):
        retriever.remove(me, "nope", "a.md")
    with pytest.raises(UnreadableDocument):
        retriever.ingest(me, "hb", "a.bin", b"x")


def test_threads_may_ingest_and_search_at_once(retriever: Retriever, store: Store, me: Scope) -> None:
    retriever.ingest(me, "hb", "leave.md", LEAVE)

    def work(number: int) -> bool:
        retriever.ingest(me, "hb", f"d{number % 8}.md", f"# Doc\n\nnumber {number} of many".encode())
        return any(p.source == "leave.md" for p in retriever.search(me, "hb", "annual leave 28 days", 4, 0.0).passages)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(48)))
    assert len(store.documents("acme", "hb")) == 9


def test_the_real_embedder_finds_meaning_and_cuts_long_questions(
    open_store: Callable[[Embedder], Store], minilm: SentenceTransformerEmbedder, me: Scope
) -> None:
    retriever = Retriever(open_store(minilm), minilm, Chunker(minilm.tokenizer, minilm.max_tokens))
    retriever.ingest(me, "hb", "leave.md", LEAVE)
    retriever.ingest(me, "hb", "gauge.md", b"# Rain gauge\n\nThe funnel catches rain water.")
    for question in ("How much holiday do I get?", "2026-01-01 ERROR x7f " * 200 + "How much holiday do I get?"):
        assert retriever.search(me, "hb", question, 1, -1.0).passages[0].source == "leave.md"
