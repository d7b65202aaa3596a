"""Rows to Markdown that can be cut anywhere: a row without its column names says nothing to a reader or a model.

A long table becomes many short ones, each under the same column names and small enough to be one passage.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import dropwhile

_BLOCK = 500  # characters; with title and headings a passage of an embedder that takes 256 tokens


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """The first row that is not empty names the columns. A row too wide for a table becomes `column: value` lines."""
    filled = (cells for row in rows if (cells := _trimmed(row)))
    names = next(filled, [])
    head = f"{_line(names)}\n|{'---|' * len(names)}\n"
    blocks = list(_blocks(names, head, filled))
    return "\n\n".join(blocks) if blocks else head.rstrip("\n") if names else ""


def _blocks(names: Sequence[str], head: str, rows: Iterable[list[str]]) -> Iterator[str]:
    block = ""
    for row in rows:
        line = _line(row + [""] * (len(names) - len(row)))
        wide = len(head) + len(line) > _BLOCK
        if block and (wide or len(head) + len(block) + len(line) > _BLOCK):
            yield head + block.rstrip("\n")
            block = ""
        if wide:
            yield _record(names, row)
        else:
            block += f"{line}\n"
    if block:
        yield head + block.rstrip("\n")


def _record(names: Sequence[str], row: Sequence[str]) -> str:
    labels = [*names, *[""] * (len(row) - len(names))]
    return "\n".join(f"{name}: {cell}" if name else cell for name, cell in zip(labels, row, strict=False) if cell)


def _line(cells: Sequence[str]) -> str:
    escaped = (re.sub(r"([|\\])", r"\\\1", cell) for cell in cells)
    return f"| {' | '.join(escaped)} |"


def _trimmed(row: Sequence[str]) -> list[str]:
    """On one line each, without empty cells at the end."""
    cells = [" ".join(cell.split()) for cell in row]
    return list(dropwhile(lambda cell: not cell, reversed(cells)))[::-1]
