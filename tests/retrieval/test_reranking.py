"""A reranker changes the order, never a score, and only where it was measured to be better."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.errors import RerankingFailed, UnknownKnowledge
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Scope
from retrieval.pipeline import Policy, Retriever
from retrieval.questions import LabelledQuestion
from retrieval.reranker import Rerank, Reranker
from retrieval.reranking import FEWEST, Reranking, Step
from retrieval.store import Store
from retrieval.verdict import Verdict
from tests.retrieval.rerankers import MARK, MarkReranker

TOPICS = [f"topic{number}" for number in range(FEWEST)]
# The first has more words of the question, the second the mark: without a reranker the first wins.
DECOY, ANSWER = "{0} opens {0} opens at nine", "{0} opens " + MARK


@pytest.fixture
def filled(retriever: Retriever, me: Scope) -> Retriever:
    for topic in TOPICS:
        for name, text in (("decoy", DECOY), ("answer", ANSWER)):
            retriever.ingest(me, "kb", f"{topic}-{name}.txt", text.format(topic).encode())
    return retriever


def questions(name: str = "answer") -> list[LabelledQuestion]:
    return [LabelledQuestion(f"{topic} opens at nine", f"{topic}-{name}.txt") for topic in TOPICS]


def reranking(
    folder: Path, filled: Retriever, store: Store, reranker: Reranker | None = None, depth: int = 10
) -> Reranking:
    rerank = Rerank(reranker or MarkReranker(), depth)
    return Reranking(folder, filled, store, HashingEmbedder().fingerprint, rerank)


def verdict_of(steps: list[Step]) -> Verdict:
    assert steps[-1].verdict is not None
    return steps[-1].verdict


def test_the_order_changes_and_the_scores_do_not(filled: Retriever, me: Scope) -> None:
    asked = (me, "kb", "topic3 opens at nine", 4, 0.1)
    plain = filled.search(*asked)
    reranked = filled.with_policy(Policy(rerank=Rerank(MarkReranker(), 10))).search(*asked)
    assert plain.passages[0].source == "topic3-decoy.txt"
    assert MARK in reranked.passages[0].text
    assert reranked.best_score == plain.best_score
    scores = {passage.id: passage.score for passage in plain.passages}
    assert all(scores.get(passage.id, passage.score) == passage.score for passage in reranked.passages)
    assert (plain.rerank_seconds, "rerank" in plain.seconds) == (None, False)
    assert reranked.rerank_seconds == reranked.seconds["rerank"]
    assert sum(reranked.seconds.values()) == pytest.approx(
        reranked.embed_seconds + reranked.search_seconds + (reranked.rerank_seconds or 0)
    )


def test_what_is_below_the_minimum_is_not_even_read(filled: Retriever, me: Scope) -> None:
    reranker = MarkReranker()
    over = filled.with_policy(Policy(rerank=Rerank(reranker, 10)))
    assert over.search(me, "kb", "zebra quark violin", 4, 0.9).passages == ()
    assert reranker.read == []


def test_only_the_first_are_read_and_the_rest_follow(filled: Retriever, me: Scope) -> None:
    reranker = MarkReranker(-1)
    asked = (me, "kb", "topic3 opens at nine", 8, -1.0)
    plain = filled.search(*asked)
    found = filled.with_policy(Policy(rerank=Rerank(reranker, 3))).search(*asked)
    assert len(reranker.read) == 3
    assert {passage.id for passage in found.passages[:3]} == {passage.id for passage in plain.passages[:3]}
    assert found.passages[3:] == plain.passages[3:]


def test_a_passage_is_scored_once_though_a_document_changes_meanwhile(filled: Retriever, me: Scope) -> None:
    class Disturbed(MarkReranker):
        def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
            if texts and self.changes:
                self.changes -= 1
                filled.ingest(me, "kb", "other.txt", f"number {self.changes} is new".encode())
            return super().score(question, texts)

        changes = 2

    reranker = Disturbed()
    over = filled.with_policy(Policy(rerank=Rerank(reranker, 4)))
    found = over.search(me, "kb", "topic3 opens at nine", 4, 0.1)
    assert len(found.passages) == 4
    assert len(reranker.read) == len(set(reranker.read))


def test_it_is_used_where_it_is_better(tmp_path: Path, filled: Retriever, store: Store, me: Scope) -> None:
    gate = reranking(tmp_path / "kept", filled, store)
    assert not gate.used("acme", "kb")
    assert gate.retriever("acme", "kb").policy.rerank is None
    steps = list(gate.run(me, "kb", questions()))
    assert [step.done for step in steps] == [*range(1, FEWEST + 1), FEWEST]
    verdict = verdict_of(steps)
    assert verdict.better
    assert verdict.comparison.reranked > verdict.comparison.without
    assert gate.used("acme", "kb")
    assert not gate.used("globex", "kb")
    assert gate.retriever("acme", "kb").policy.rerank is not None
    assert reranking(tmp_path / "kept", filled, store).used("acme", "kb")


@pytest.mark.parametrize("worth", [-1.0, 0.0])
def test_a_worse_or_indifferent_one_is_refused(
    tmp_path: Path, filled: Retriever, store: Store, me: Scope, worth: float
) -> None:
    gate = reranking(tmp_path / "kept", filled, store, MarkReranker(worth))
    verdict = verdict_of(list(gate.run(me, "kb", questions())))
    assert not verdict.better
    assert verdict.comparison.difference.low <= 0
    assert gate.verdict("acme", "kb") == verdict
    assert not gate.used("acme", "kb")


def test_a_later_verdict_replaces_the_earlier(tmp_path: Path, filled: Retriever, store: Store, me: Scope) -> None:
    gate = reranking(tmp_path / "kept", filled, store)
    list(gate.run(me, "kb", questions()))
    assert gate.used("acme", "kb")
    list(gate.run(me, "kb", questions("decoy")))
    assert not gate.used("acme", "kb")


def test_another_reranker_depth_or_search_needs_its_own_verdict(
    tmp_path: Path, filled: Retriever, store: Store, me: Scope
) -> None:
    list(reranking(tmp_path, filled, store).run(me, "kb", questions()))
    dense = filled.with_policy(replace(filled.policy, mode="dense"))
    for other in (
        reranking(tmp_path, filled, store, MarkReranker(2.0)),
        reranking(tmp_path, filled, store, depth=11),
        reranking(tmp_path, dense, store),
        Reranking(tmp_path, filled, store, "another embedder", Rerank(MarkReranker(), 10)),
        Reranking(tmp_path, filled, store, HashingEmbedder().fingerprint, None),
    ):
        assert not other.used("acme", "kb")
    assert reranking(tmp_path, filled, store).used("acme", "kb")


def test_when_the_documents_are_others_it_is_off_again(
    tmp_path: Path, filled: Retriever, store: Store, me: Scope, caplog: pytest.LogCaptureFixture
) -> None:
    gate = reranking(tmp_path / "kept", filled, store)
    list(gate.run(me, "kb", questions()))
    for number in range(20):
        filled.ingest(me, "kb", f"new{number}.txt", f"Something new {number}.".encode())
    assert not gate.used("acme", "kb")
    assert "so it is off; run `breakeven eval rerank --knowledge kb --questions FILE` again" in caplog.text


def test_the_note_says_where_it_is_off_and_how_to_measure(
    tmp_path: Path, filled: Retriever, store: Store, me: Scope
) -> None:
    gate = reranking(tmp_path / "kept", filled, store)
    note = gate.note()
    assert note is not None
    assert "marks is off for 1 of 1 knowledge bases" in note
    assert "`breakeven eval rerank --knowledge NAME --questions FILE`" in note
    list(gate.run(me, "kb", questions()))
    assert gate.note() is None
    assert Reranking(tmp_path, filled, store, "e", None).note() is None


def test_questions_that_cannot_judge_are_refused(tmp_path: Path, filled: Retriever, store: Store, me: Scope) -> None:
    gate = reranking(tmp_path / "kept", filled, store)
    few = [*questions()[: FEWEST - 1], LabelledQuestion("nobody knows", None), LabelledQuestion("somebody", "")]
    for asked, words in (
        (few, f"there are {FEWEST - 1} questions that name their file"),
        ([*questions(), LabelledQuestion("a", "gone.txt")], "no document 'gone.txt'"),
    ):
        with pytest.raises(RerankingFailed, match=words):
            list(gate.run(me, "kb", asked))
    with pytest.raises(RerankingFailed, match=r"set retrieval\.reranker"):
        list(Reranking(tmp_path, filled, store, "e", None).run(me, "kb", questions()))
    with pytest.raises(UnknownKnowledge):
        list(gate.run(me, "nothing", questions()))
