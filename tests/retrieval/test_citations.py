"""Numbers in an answer: which are citations, which passages they name, and what the client is shown."""

from typing import Any

import pytest

from retrieval.citations import Cited, check, mark


def annotation(number: int) -> dict[str, Any]:
    return {"type": "file_citation", "file_citation": {"filename": f"{number}.md", "number": number, "score": 0.5}}


SUPPLIED = [annotation(2), annotation(1), annotation(3)]  # best first; numbers are in document order


@pytest.mark.parametrize(
    ("text", "matched", "unmatched"),
    [
        ("No number at all.", (), ()),
        ("Twenty-eight days [1].", (1,), ()),
        ("Days[3], weeks [1][2] and years [2].", (1, 2, 3), ()),
        ("Both say so [1, 3] or [2;9].", (1, 2, 3), (9,)),
        ("Made up [7] and [0].", (), (0, 7)),
        ("A link [1](http://a.b), a footnote [^2], a year [2024], text [see 1].", (), ()),
        ("Code `rows[1]` and\n```\nx[2]\n```\nthen [3].", (3,), ()),
        ("An open fence\n```\nx[2]", (), ()),
        ("[", (), ()),
    ],
)
def test_what_counts_as_a_citation(text: str, matched: tuple[int, ...], unmatched: tuple[int, ...]) -> None:
    assert check([text], SUPPLIED) == Cited(matched, unmatched)


def test_choices_are_counted_together() -> None:
    assert check(["[1] [8]", "[2] [8]"], SUPPLIED) == Cited((1, 2), (8,))


def test_without_a_citation_the_annotations_are_as_they_were() -> None:
    for text in ("", "No number.", "Only a wrong one [9]."):
        assert mark(text, SUPPLIED) == SUPPLIED


def test_cited_passages_come_first_and_none_is_left_out() -> None:
    shown = [each["file_citation"] for each in mark("So it is [3][1].", SUPPLIED)]
    assert [(each["number"], each.get("cited")) for each in shown] == [(1, True), (3, True), (2, None)]
    assert all("cited" not in each["file_citation"] for each in SUPPLIED)
