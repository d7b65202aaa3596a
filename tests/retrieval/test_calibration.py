"""The minimum score: set from questions, kept, used, and known to be outdated when the documents are others."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from retrieval.calibration import FEWEST, Calibration, Circumstances, Scored, check_enough, fit
from retrieval.calibrator import Calibrator
from retrieval.catalogue import DocumentInfo
from retrieval.errors import CalibrationFailed, UnknownKnowledge
from retrieval.generated import EVERYDAY, covered_questions
from retrieval.hashing import HashingEmbedder
from retrieval.kept import drift
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.questions import LabelledQuestion, parse_questions, read_questions
from retrieval.store import Store

PLACES = ("harbour", "bridge", "tower", "garden", "station", "market", "museum", "airport", "library", "stadium")
ON = Circumstances("acme", "kb", "embedder", [], False)


def text_of(place: str) -> bytes:
    return f"The {place} opens at nine and closes at seventeen hours. Tickets for the {place} cost eleven.".encode()


@pytest.fixture
def filled(retriever: Retriever, me: Scope) -> Retriever:
    for place in PLACES:
        retriever.ingest(me, "kb", f"{place}.txt", text_of(place))
    return retriever


@pytest.fixture
def calibrator(tmp_path: Path, filled: Retriever, store: Store, hashing: HashingEmbedder) -> Calibrator:
    return Calibrator(tmp_path / "calibration", filled, store, hashing)


def questions() -> list[LabelledQuestion]:
    covered = [LabelledQuestion(f"tickets for the {place} cost", f"{place}.txt") for place in PLACES]
    return covered + [LabelledQuestion(f"zebra{number} quark{number} violin", None) for number in range(FEWEST)]


def scored(covered: list[float], uncovered: list[float]) -> list[Scored]:
    rows = [Scored(LabelledQuestion("a", "f"), score, True) for score in covered]
    return rows + [Scored(LabelledQuestion("b", None), score, False) for score in uncovered]


def result_of(steps: Iterator[object]) -> Calibration:
    *_, last = steps
    found = getattr(last, "calibration", None)
    assert isinstance(found, Calibration)
    return found


def test_the_lowest_minimum_that_is_precise_enough() -> None:
    rows = scored([0.9, 0.8, 0.7, 0.6, 0.3], [0.65, 0.4, 0.2, 0.1])
    perfect, good, loose = (fit(rows, precision, ON) for precision in (1.0, 0.8, 0.65))
    assert (perfect.min_score, perfect.precision.value, perfect.answered) == (0.675, 1.0, 0.6)
    assert (good.min_score, good.precision.value, good.answered) == (0.5, 0.8, 0.8)
    assert (loose.min_score, loose.precision.value, loose.refused) == (0.25, 0.7143, 0.5)
    assert good.auroc.value == 0.85


def test_a_precision_that_would_refuse_nearly_everything_is_not_put_in_force() -> None:
    rows = scored([0.9, 0.5, 0.5, 0.5, 0.5], [0.6, 0.6, 0.1])
    with pytest.raises(CalibrationFailed, match=r"precision is 0\.71 and 100% are answered: --precision 0\.71"):
        fit(rows, 0.95, ON)
    assert fit(rows, 0.71, ON).answered == 1


def test_calibrating_sets_keeps_and_finds_again(
    calibrator: Calibrator, tmp_path: Path, filled: Retriever, store: Store, hashing: HashingEmbedder, me: Scope
) -> None:
    assert calibrator.current("acme", "kb") is None
    steps = list(calibrator.run(me, "kb", questions(), 0.9))
    assert [step.done for step in steps] == [*range(1, 21), 20]
    found = result_of(iter(steps))
    assert found.precision.value == 1
    assert found.found == 1
    assert found.refused == 1
    assert not found.generated
    assert len(found.documents) == len(PLACES)
    assert calibrator.current("acme", "kb") == found
    for question in questions():
        answer = filled.search(me, "kb", question.question, 4, found.min_score)
        assert bool(answer.passages) == (question.file is not None)
    again = Calibrator(tmp_path / "calibration", filled, store, hashing)
    assert again.current("acme", "kb") == found
    assert again.current("globex", "kb") is None


def test_a_calibration_of_another_embedder_or_a_broken_file_is_not_used(
    calibrator: Calibrator, tmp_path: Path, filled: Retriever, store: Store, me: Scope
) -> None:
    result_of(calibrator.run(me, "kb", questions(), 0.9))
    assert Calibrator(tmp_path / "calibration", filled, store, HashingEmbedder(128)).current("acme", "kb") is None
    (tmp_path / "calibration" / "acme" / "kb.json").write_text('{"tenant": "acme"')
    assert Calibrator(tmp_path / "calibration", filled, store, HashingEmbedder()).current("acme", "kb") is None


def test_names_cannot_leave_the_folder(tmp_path: Path, retriever: Retriever, store: Store) -> None:
    evil = Scope("a/../../acme", frozenset({"everyone"}))
    for place in PLACES:
        retriever.ingest(evil, "k/../../../kb", f"{place}.txt", text_of(place))
    folder = tmp_path / "deep" / "calibration"
    calibrator = Calibrator(folder, retriever, store, HashingEmbedder())
    result_of(calibrator.run(evil, "k/../../../kb", questions(), 0.9))
    kept = [file for file in tmp_path.rglob("*.json") if "store" not in file.parts]
    assert {file.parent.parent for file in kept} == {folder}
    assert Calibrator(folder, retriever, store, HashingEmbedder()).current("a/../../acme", "k/../../../kb") is not None


def test_drift_counts_documents_that_changed_came_or_went(
    calibrator: Calibrator, filled: Retriever, store: Store, me: Scope
) -> None:
    found = result_of(calibrator.run(me, "kb", questions(), 0.9))
    assert drift(found.documents, store.documents("acme", "kb")) == 0
    filled.ingest(me, "kb", "tower.txt", b"The tower is closed for good.")
    assert drift(found.documents, store.documents("acme", "kb")) == pytest.approx(0.1)
    filled.remove(me, "kb", "garden.txt")
    assert drift(found.documents, store.documents("acme", "kb")) == pytest.approx(0.2)
    for number in range(9):
        filled.ingest(me, "kb", f"new{number}.txt", f"Something new {number}.".encode())
    assert drift(found.documents, store.documents("acme", "kb")) == pytest.approx(10 / 18)


def test_too_much_drift_is_logged_once(
    calibrator: Calibrator, filled: Retriever, me: Scope, caplog: pytest.LogCaptureFixture
) -> None:
    result_of(calibrator.run(me, "kb", questions(), 0.9))
    for place in PLACES[:3]:
        filled.remove(me, "kb", f"{place}.txt")
    assert [calibrator.drift("acme", "kb"), calibrator.drift("acme", "kb")] == [pytest.approx(0.3)] * 2
    assert [record.message.count("30% of the documents in 'kb'") for record in caplog.records] == [1]
    assert calibrator.drift("globex", "kb") is None


def test_what_the_caller_may_not_see_does_not_count(
    tmp_path: Path, retriever: Retriever, store: Store, hashing: HashingEmbedder, me: Scope
) -> None:
    for place in PLACES:
        retriever.ingest(me, "kb", f"{place}.txt", text_of(place), frozenset({"hr"}))
    calibrator = Calibrator(tmp_path / "calibration", retriever, store, hashing)
    with pytest.raises(CalibrationFailed, match="may see no document"):
        list(calibrator.run(me, "kb", questions(), 0.9))
    assert covered_questions(store, hashing.dimensions, me, "kb") == []


def test_without_questions_some_are_made_from_passages(calibrator: Calibrator, store: Store, me: Scope) -> None:
    made = covered_questions(store, 256, me, "kb", count=12)
    assert made == covered_questions(store, 256, me, "kb", count=12)
    assert len(made) == 12
    for question in made:
        assert question.file is not None
        assert len(set(question.question.split()) & set(text_of(question.file[:-4]).decode().lower().split())) >= 2
    found = result_of(calibrator.run(me, "kb", None, 0.6))
    assert found.generated
    assert found.uncovered == len(EVERYDAY) == len(set(EVERYDAY))


@pytest.mark.parametrize(
    "row", [{}, {"question": ""}, {"question": "a"}, {"question": "a", "file": 3}, "a", {"file": None}]
)
def test_a_bad_question_is_named(row: object) -> None:
    with pytest.raises(CalibrationFailed, match="question 2 is not"):
        parse_questions([{"question": "a", "file": None}, row])


def test_too_few_questions_of_a_kind(tmp_path: Path) -> None:
    file = tmp_path / "questions.jsonl"
    rows = [{"question": f"q{number}", "file": "a.md"} for number in range(20)]
    file.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(CalibrationFailed, match=r"there are 0 questions that no document answers .* at least 10"):
        check_enough(read_questions(file))
    file.write_text("not json")
    with pytest.raises(CalibrationFailed, match="cannot be read"):
        read_questions(file)


def test_a_precision_out_of_range_and_an_unknown_knowledge_base(calibrator: Calibrator, me: Scope) -> None:
    with pytest.raises(CalibrationFailed, match="above 0 and at most 1"):
        list(calibrator.run(me, "kb", questions(), 1.5))
    with pytest.raises(UnknownKnowledge):
        list(calibrator.run(me, "nothing", None, 0.9))


def test_documents_are_told_apart_by_source_and_content() -> None:
    def info(source: str, sha256: str) -> DocumentInfo:
        return DocumentInfo(source, "t", sha256, 1, frozenset())

    found = fit(scored([0.9], [0.1]), 0.9, replace(ON, documents=[info("a", "1"), info("b", "2")]))
    assert drift(found.documents, [info("b", "2"), info("a", "1")]) == 0
    assert drift(found.documents, [info("a", "2"), info("b", "1")]) == 1
    assert drift(found.documents, []) == 1
