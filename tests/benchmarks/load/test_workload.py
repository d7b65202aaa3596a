"""Prompts and arrivals: repeatable, and a bad file is named with its line."""

from itertools import islice, pairwise
from pathlib import Path

import pytest

from benchmarks.errors import PlanError
from benchmarks.load.workload import poisson_arrivals, questions, synthetic


def test_questions_come_in_order_and_round_again(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "a?"}\n\n{"prompt": "b?"}\n{"messages": [{"role": "system", "content": "c"}]}\n')
    workload = questions(path)
    assert [workload.messages(index)[0]["content"] for index in range(4)] == ["a?", "b?", "c", "a?"]
    assert workload.messages(2)[0]["role"] == "system"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no prompts"),
        ('{"question": "a"}\n{"text": "b"}', r"q.jsonl:2 needs a"),
        ("a question", "q.jsonl:1 is not JSON"),
        ('{"question": " "}', r"q.jsonl:1 needs a"),
    ],
)
def test_a_bad_prompts_file_is_named_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(PlanError, match=words):
        questions(path)


def test_a_missing_prompts_file_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read the prompts file"):
        questions(tmp_path / "absent.jsonl")


def test_synthetic_prompts_have_their_length_and_differ_but_repeat() -> None:
    texts = [synthetic(40, seed=1).messages(index)[0]["content"] for index in range(50)]
    assert {len(text.split()) for text in texts} == {40}
    assert len(set(texts)) == 50
    assert texts == [synthetic(40, seed=1).messages(index)[0]["content"] for index in range(50)]
    assert texts[0] != synthetic(40, seed=2).messages(0)[0]["content"]


def test_poisson_arrivals_have_their_rate_and_spread() -> None:
    """20,000 gaps: mean 1/rate, and a standard deviation as large as the mean, as only exponential gaps have it."""
    times = list(islice(poisson_arrivals(2.5, seed=5), 20_000))
    gaps = [after - before for before, after in pairwise([0.0, *times])]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.4, rel=0.03)
    assert deviation == pytest.approx(mean, rel=0.03)
