"""Measuring refusal: the files are read as they are laid out, and the figures follow from the scores."""

import json
from pathlib import Path

import pytest
from rich.console import Console
from rich.progress import Progress

from benchmarks.question_sets import QuestionSetError, read_questions, read_squad
from benchmarks.refusal_eval import LOOKALIKES, OTHER_ARTICLES, contrast, evaluate, run
from retrieval.hashing import HashingEmbedder

ARTICLES = {"Rain_gauges": "A rain gauge holds forty millimetres.", "Owls": "An owl turns its head far around."}


@pytest.fixture
def squad(tmp_path: Path) -> Path:
    def article(title: str, text: str) -> dict[str, object]:
        qas = [
            {"question": text.replace(".", f" {number}?"), "id": f"{title}{number}", "is_impossible": number == 3}
            for number in (1, 2, 2, 3)
        ]
        return {"title": title, "paragraphs": [{"context": text, "qas": qas}]}

    file = tmp_path / "squad.json"
    file.write_text(json.dumps({"version": "v2.0", "data": [article(*one) for one in ARTICLES.items()]}))
    return file


def test_squad_is_read_without_repetitions(squad: Path) -> None:
    found = read_squad(squad)
    assert [paragraph.article for paragraph in found.paragraphs] == ["Rain gauges", "Owls"]
    assert found.paragraphs[0].markdown == "# Rain gauges\n\nA rain gauge holds forty millimetres.\n"
    assert len({paragraph.source for paragraph in found.paragraphs}) == 2
    assert found.answered == {
        "A rain gauge holds forty millimetres 1?": "Rain gauges",
        "A rain gauge holds forty millimetres 2?": "Rain gauges",
        "An owl turns its head far around 1?": "Owls",
        "An owl turns its head far around 2?": "Owls",
    }
    assert found.unanswered == ("A rain gauge holds forty millimetres 3?", "An owl turns its head far around 3?")
    assert read_questions(squad) == [*found.answered, *found.unanswered]


def test_csv_is_read_without_repetitions(tmp_path: Path) -> None:
    file = tmp_path / "banking.csv"
    file.write_text('text,category\nWhere is my card?,a\n"Lost, stolen",b\nWhere is my card?,c\n')
    assert read_questions(file) == ["Where is my card?", "Lost, stolen"]


@pytest.mark.parametrize(("name", "text"), [("a.json", "{}"), ("a.json", "x"), ("a.csv", "question\nWhy?\n")])
def test_another_layout_is_an_error(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(QuestionSetError, match=name):
        read_questions(file)


def test_a_contrast_follows_from_its_scores() -> None:
    found = contrast("x", [0.9, 0.8, 0.4, 0.3], [0.5, 0.2])
    assert found.auroc.value == 0.75
    assert (found.at_default.precision, found.at_default.answered, found.at_default.refused) == (0.75, 0.75, 0.5)
    assert found.at_precision is not None
    assert (found.at_precision.min_score, found.at_precision.answered) == (0.65, 0.5)


def test_covered_questions_score_above_others_through_the_pipeline(squad: Path) -> None:
    others = {"banking": ["Where is my card", "Top up failed again"]}
    with Progress(disable=True) as progress:
        passages, contrasts = evaluate(read_squad(squad), others, HashingEmbedder(), progress, 10)
    assert passages == 2
    found = {one.against: one for one in contrasts}
    assert list(found) == ["banking", OTHER_ARTICLES, LOOKALIKES]
    assert (found["banking"].covered, found["banking"].uncovered) == (4, 2)
    assert found["banking"].auroc.value == 1
    assert (found[OTHER_ARTICLES].covered, found[OTHER_ARTICLES].uncovered) == (2, 2)
    assert found[OTHER_ARTICLES].auroc.value == 1  # the other article's paragraph is not searched
    assert found[LOOKALIKES].auroc.value < 1


def test_what_is_measured_is_printed_and_written(squad: Path, tmp_path: Path) -> None:
    others = tmp_path / "bank.csv"
    others.write_text("text\nWhere is my card?\nTop up failed again\n")
    console = Console(record=True, width=80)
    run(squad, [f"bank={others}"], HashingEmbedder, 10, tmp_path / "out" / "refusal.json", console)
    written = json.loads((tmp_path / "out" / "refusal.json").read_text())
    assert written["origin"]["command"] == "breakeven eval refusal squad.json --against bank=bank.csv --sample 10"
    assert [one["against"] for one in written["contrasts"]] == ["bank", OTHER_ARTICLES, LOOKALIKES]
    shown = console.export_text()
    assert f"{written['contrasts'][0]['auroc']['value']:.4f}" in shown
    assert "bank, default" in shown


@pytest.mark.parametrize("against", ["bank", "bank="])
def test_other_questions_need_a_name_and_a_file(squad: Path, against: str) -> None:
    with pytest.raises(QuestionSetError, match="name=FILE"):
        run(squad, [against], HashingEmbedder, 10, None, Console(quiet=True))
