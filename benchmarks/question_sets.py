"""Reads documents and questions for measuring refusal: SQuAD's JSON layout, and CSV files with a column `text`."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError


class QuestionSetError(BenchmarkError):
    """A file has none of the layouts that can be read."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """One document: a paragraph under its article's title."""

    source: str
    article: str
    markdown: str


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """`answered`: question -> article whose paragraph answers it; `unanswered`: questions that none does, by the set's
    own labels. Both without repetitions."""

    paragraphs: tuple[Paragraph, ...]
    answered: Mapping[str, str]
    unanswered: tuple[str, ...]


def read_squad(file: Path) -> QuestionSet:
    """A set in SQuAD's layout. Raises QuestionSetError."""
    paragraphs: list[Paragraph] = []
    answered: dict[str, str] = {}
    unanswered: dict[str, None] = {}
    try:
        for article in json.loads(file.read_text(encoding="utf-8"))["data"]:
            title = str(article["title"]).replace("_", " ")
            for paragraph in article["paragraphs"]:
                source = f"{len(paragraphs)}.md"
                paragraphs.append(Paragraph(source, title, f"# {title}\n\n{paragraph['context']}\n"))
                for text, possible in _asked(paragraph["qas"]):
                    if possible:
                        answered[text] = title
                    else:
                        unanswered[text] = None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise QuestionSetError(f"{file} is not in SQuAD's layout: {error!r}") from None
    return QuestionSet(tuple(paragraphs), answered, tuple(text for text in unanswered if text not in answered))


def read_questions(file: Path) -> list[str]:
    """All questions of a SQuAD file (.json), or the column `text` of a .csv, without repetitions."""
    if file.suffix == ".json":
        found = read_squad(file)
        return [*found.answered, *found.unanswered]
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            return list(dict.fromkeys(row["text"].strip() for row in csv.DictReader(lines)))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise QuestionSetError(f"{file} has no readable column `text`: {error!r}") from None


def _asked(qas: list[dict[str, Any]]) -> Iterator[tuple[str, bool]]:
    for one in qas:
        yield str(one["question"]).strip(), not one.get("is_impossible", False)
