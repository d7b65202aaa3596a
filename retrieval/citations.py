"""The [n] in an answer, checked against the passages that the model was shown. Pure functions; the text stays as it is.

Retrieval knows what was supplied, only the answer says what was used. A number that no passage has is counted: it is
the sign of a model that cites from imagination.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# [2], [1, 3] and [1][3]. Not a Markdown link [1](...), a footnote [^1] or anything in code.
_CITATION = re.compile(r"\[(\d{1,3}(?:\s?[,;]\s?\d{1,3})*)\](?!\()")
_CODE = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Cited:
    """Numbers in an answer, each once, sorted: those of passages, and those that no passage has."""

    matched: tuple[int, ...] = ()
    unmatched: tuple[int, ...] = ()


def check(texts: Iterable[str], annotations: Sequence[Mapping[str, Any]]) -> Cited:
    """The citations in an answer's texts (one per choice) against the annotations of all passages supplied."""
    numbers = {number for text in texts for number in _numbers(text)}
    supplied = {annotation["file_citation"]["number"] for annotation in annotations}
    return Cited(tuple(sorted(numbers & supplied)), tuple(sorted(numbers - supplied)))


def mark(text: str, annotations: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The annotations for one choice: those that its text cites first, with `cited`; all as they are if it cites none.

    The order is otherwise kept, and no passage is left out: an answer may rest on one without saying so.
    """
    cited = set(check([text], annotations).matched)
    marked = [_marked(each) for each in annotations if each["file_citation"]["number"] in cited]
    return [*marked, *(each for each in annotations if each["file_citation"]["number"] not in cited)]


def places(text: str) -> list[tuple[int, int]]:
    """(where in the text its mark ends, number) of every citation, in order."""
    if "[" not in text:
        return []
    prose = _CODE.sub(lambda code: " " * len(code[0]), text)
    return [
        (found.end(), int(digits)) for found in _CITATION.finditer(prose) for digits in re.findall(r"\d+", found[1])
    ]


def _numbers(text: str) -> set[int]:
    return {number for _, number in places(text)}


def _marked(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**annotation, "file_citation": {**annotation["file_citation"], "cited": True}}
