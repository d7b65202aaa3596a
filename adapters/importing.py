"""Turns tables of texts and labels, and prompt/completion pairs, into chat data that can be checked and trained on."""

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.dataset import parse_object
from adapters.errors import MalformedData, MalformedRecipe, OutputExists


@dataclass(frozen=True, slots=True)
class Imported:
    """What was written; `sha256` of its bytes is the version of the data set."""

    path: Path
    examples: int
    sha256: str


_Row = tuple[int, str, str]


def import_csv(path: Path, out: Path, text: str, label: str, system: str | None = None) -> Imported:
    """From a CSV file whose columns `text` and `label` become question and answer. Raises MalformedData."""
    try:
        table = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    reader = csv.DictReader(io.StringIO(table), strict=True)
    try:
        columns = reader.fieldnames or []
        if missing := [name for name in (text, label) if name not in columns]:
            raise MalformedData(path, [(1, f"no column {missing[0]!r}; there are {', '.join(columns) or 'none'}")])
        rows = [(reader.line_num, row[text] or "", row[label] or "") for row in reader]
    except csv.Error as error:
        raise MalformedData(path, [(reader.line_num, f"not CSV: {error}")]) from None
    return _write(path, out, rows, system)


def import_pairs(path: Path, out: Path, system: str | None = None) -> Imported:
    """From JSONL of {"prompt": ..., "completion": ...}, the form before chat. Raises MalformedData."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from None
    problems: list[tuple[int, str]] = []
    rows: list[_Row] = []
    for number, line in enumerate(raw.split(b"\n"), start=1):
        if line.strip():
            try:
                rows.append((number, *_pair(parse_object(line))))
            except ValueError as error:
                problems.append((number, str(error)))
    if problems:
        raise MalformedData(path, problems)
    return _write(path, out, rows, system)


def _pair(row: dict[str, Any]) -> tuple[str, str]:
    prompt, completion = row.get("prompt"), row.get("completion")
    if not isinstance(prompt, str) or not isinstance(completion, str):
        raise ValueError('needs "prompt" and "completion", both texts')
    return prompt, completion


def _write(path: Path, out: Path, rows: Iterable[_Row], system: str | None) -> Imported:
    if out.exists():
        raise OutputExists(f"{out} already exists: remove it or name another file")
    stripped = [(line, question.strip(), answer.strip()) for line, question, answer in rows]
    problems = [(line, "question and answer must both have text") for line, *texts in stripped if not all(texts)]
    if problems or not stripped:
        raise MalformedData(path, problems or [(1, "no rows")])
    text = "".join(_lines(stripped, system))
    fresh = out.with_name(f".{out.name}.part")
    fresh.write_text(text, encoding="utf-8")
    fresh.rename(out)
    return Imported(out, len(stripped), hashlib.sha256(text.encode()).hexdigest())


def _lines(rows: Iterable[_Row], system: str | None) -> Iterator[str]:
    first = [{"role": "system", "content": system}] if system else []
    for _, question, answer in rows:
        turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        yield json.dumps({"messages": first + turns}, ensure_ascii=False) + "\n"


def _unreadable(path: Path, error: OSError | UnicodeDecodeError) -> MalformedRecipe:
    why = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
    return MalformedRecipe(f"{path} cannot be read ({why}): check the file name and its encoding")
