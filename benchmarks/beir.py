"""Retrieval test sets in the BEIR layout: corpus.jsonl, queries.jsonl and qrels/test.tsv in one folder."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError

_COLUMNS = 3  # query, document, grade


class JudgedSetError(BenchmarkError):
    """A folder is no BEIR-style test set."""


@dataclass(frozen=True, slots=True)
class JudgedSet:
    """`documents`: Markdown by id, the title as its heading. `queries`: those that have judgements, by id.
    `judgements`: query -> document -> grade; 0 is not relevant."""

    name: str
    documents: Mapping[str, str]
    queries: Mapping[str, str]
    judgements: Mapping[str, Mapping[str, int]]


def load(folder: Path) -> JudgedSet:
    """Reads a test set. Documents without text are left out. Raises JudgedSetError."""
    judgements: dict[str, dict[str, int]] = {}
    for query, document, grade in _judgements(folder / "qrels" / "test.tsv"):
        judgements.setdefault(query, {})[document] = grade
    queries = {id: row["text"] for id, row in _rows(folder / "queries.jsonl") if id in judgements}
    if missing := judgements.keys() - queries.keys():
        raise JudgedSetError(f"{folder}: queries.jsonl lacks {len(missing)} judged queries, such as {min(missing)!r}")
    documents = {id: _markdown(row) for id, row in _rows(folder / "corpus.jsonl")}
    documents = {id: text for id, text in documents.items() if text.strip()}
    if not documents or not queries:
        raise JudgedSetError(f"{folder}: no documents or no judged queries; is this the right folder?")
    return JudgedSet(folder.name, documents, queries, judgements)


def _markdown(row: Mapping[str, Any]) -> str:
    title = " ".join(str(row.get("title") or "").split())
    text = str(row["text"])
    return f"# {title}\n\n{text}" if title else text


def _rows(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(_lines(file), start=1):
        try:
            row = json.loads(line)
            yield str(row["_id"]), {**row, "text": row["text"]}
        except (ValueError, KeyError, TypeError) as error:
            raise JudgedSetError(f"{file}:{number}: needs an object with _id and text ({error})") from None


def _judgements(file: Path) -> Iterator[tuple[str, str, int]]:
    """Below its line of headings."""
    for number, line in enumerate(_lines(file)[1:], start=2):
        parts = line.split("\t")
        if len(parts) != _COLUMNS or not parts[2].lstrip("-").isdigit():
            raise JudgedSetError(f"{file}:{number}: needs query, document and whole grade, separated by tabs")
        yield parts[0], parts[1], max(0, int(parts[2]))


def _lines(file: Path) -> list[str]:
    try:
        return [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise JudgedSetError(
            f"cannot read {file} ({error.__class__.__name__}); a test set is a folder with corpus.jsonl, queries.jsonl "
            "and qrels/test.tsv"
        ) from None
