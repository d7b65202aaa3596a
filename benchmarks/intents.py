"""Published sets of customers' messages and their intents, as chat data: BANKING77 (Casanueva et al. 2020) and Bitext's
customer support sample. A folder holds one of them as it is published; its files say which.

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


@dataclass(frozen=True, slots=True)
class Row:
    """A customer's message and what it is about."""

    text: str
    label: str


@dataclass(frozen=True, slots=True)
class Layout:
    """One set: its file names, and which columns are text and label. Its name is that of adapters and tasks, too."""

    name: str
    train: str
    test: str
    text: str
    label: str

    def read(self, path: Path) -> list[Row]:
        """Raises TaskError that says what is wrong with the file."""
        return [Row(" ".join(row[self.text].split()), label_of(row[self.label])) for row in self._rows(path)]

    def _rows(self, path: Path) -> list[dict[str, str]]:
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
        except OSError as error:
            raise TaskError(f"{path} cannot be read ({error.strerror}): give the set's folder") from None
        columns = (self.text, self.label)
        if not rows or any(not (row.get(column) or "").strip() for row in rows for column in columns):
            raise TaskError(f"{path.name} must have the columns {','.join(columns)} and a value for each in every row")
        return rows


_BITEXT = "Bitext_Sample_Customer_Service_{}_Dataset.csv"
LAYOUTS = (
    Layout("banking77", "train.csv", "test.csv", "text", "category"),
    Layout("bitext", _BITEXT.format("Training"), _BITEXT.format("Testing"), "utterance", "intent"),
)


@dataclass(frozen=True, slots=True)
class IntentSet:
    """What a folder holds."""

    name: str
    train: list[Row]
    test: list[Row]


def read_set(folder: Path) -> IntentSet:
    """Whichever set is in the folder. Raises TaskError."""
    layout = next((each for each in LAYOUTS if (folder / each.train).is_file()), None)
    if layout is None:
        wanted = " or ".join(each.train for each in LAYOUTS)
        raise TaskError(f"{folder} is no set of intents: give a folder with {wanted}")
    return IntentSet(layout.name, layout.read(folder / layout.train), layout.read(folder / layout.test))


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
