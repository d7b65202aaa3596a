"""BANKING77 (Casanueva et al. 2020) as chat data: a folder with train.csv and test.csv of `text,category`.

The system prompt is one token, since every example pays for it; the base model's template would put a longer one there
if it were left out. Labels are the categories as plain words, which a language model knows something about.
"""

import csv
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.adapter_eval.questions import TaskError

SYSTEM = "Intent"
_COLUMNS = ("text", "category")


@dataclass(frozen=True, slots=True)
class Row:
    """A customer's message and what it is about."""

    text: str
    label: str


def read_rows(path: Path) -> list[Row]:
    """Raises TaskError that says what is wrong with the file."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError as error:
        raise TaskError(
            f"{path} cannot be read ({error.strerror}): give the folder of train.csv and test.csv"
        ) from None
    if not rows or any(not (row.get(column) or "").strip() for row in rows for column in _COLUMNS):
        raise TaskError(f"{path.name} must have the columns {','.join(_COLUMNS)} and a value for each in every row")
    return [Row(" ".join(row["text"].split()), label_of(row["category"])) for row in rows]


def label_of(category: str) -> str:
    """`Refund_not_showing_up` -> `refund not showing up`."""
    return " ".join(category.replace("_", " ").strip("? ").lower().split())


def subset(rows: Sequence[Row], size: int, seed: int) -> list[Row]:
    """`size` rows, as evenly over the labels as they allow. Of one seed, a larger subset holds the smaller ones."""
    chance = random.Random(seed)  # noqa: S311  # repeatable is the point; no secrets
    shuffled = chance.sample(list(rows), len(rows))
    labels = chance.sample(sorted({row.label for row in rows}), len({row.label for row in rows}))
    rank = {label: place for place, label in enumerate(labels)}
    seen = dict.fromkeys(labels, 0)
    order: list[tuple[int, int, Row]] = []
    for row in shuffled:
        order.append((seen[row.label], rank[row.label], row))
        seen[row.label] += 1
    return [row for _, _, row in sorted(order, key=lambda each: each[:2])[:size]]


def write_chat(rows: Sequence[Row], path: Path, *, labelled: bool = True) -> None:
    """As chat JSONL; without labels it is questions only."""
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": row.text}]
            if labelled:
                messages.append({"role": "assistant", "content": row.label})
            file.write(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")


def write_task(labels: Sequence[str], path: Path, name: str, data: str) -> None:
    """The task file of `breakeven eval adapter`; a JSON string is a TOML one too."""
    facts = {"name": name, "kind": "classification", "data": data, "labels": sorted(labels), "max_tokens": 24}
    path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items()), encoding="utf-8")
