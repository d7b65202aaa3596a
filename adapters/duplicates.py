"""Which conversations say the same as another: copies, near copies, and training examples that leak into validation.

Near copies are found with MinHash and locality-sensitive hashing (Broder 1997): linear in the number of examples where
comparing all pairs would not be. What hashing proposes is confirmed by the exact Jaccard similarity. System prompts are
left out, and so is what more than a tenth of the examples share: instructions repeated in each example would make all
of them alike.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from adapters.dataset import Example

SIMILAR = 0.8  # Jaccard similarity of character sequences
_SHINGLE = 5  # characters
_BANDS, _ROWS = 20, 5  # 99.98 % of pairs at 0.8 share a band, 47 % at 0.5
_PER_BUCKET = 8
_BOILERPLATE = 0.1
_FEWEST = 12  # shingles that a text needs to be judged: "yes" is near to a lot

_Hashes = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Twin:
    """The example on `line` is like the one on `other`; `similarity` 1.0 is a copy."""

    line: int
    other: int
    similarity: float


def copies(examples: Sequence[Example]) -> tuple[Twin, ...]:
    """Examples whose every message is that of an earlier one, white space and letter case aside."""
    first: dict[bytes, int] = {}
    found = []
    for example in examples:
        other = first.setdefault(_digest(example, len(example.messages)), example.line)
        if other != example.line:
            found.append(Twin(example.line, other, 1.0))
    return tuple(found)


def contradictions(examples: Sequence[Example]) -> tuple[Twin, ...]:
    """Examples that ask exactly what an earlier one asks, and answer differently."""
    first: dict[bytes, Example] = {}
    found = []
    for example in examples:
        other = first.setdefault(_digest(example, len(example.messages) - 1), example)
        if _normal(other.messages[-1].content) != _normal(example.messages[-1].content):
            found.append(Twin(example.line, other.line, 1.0))
    return tuple(found)


def near(examples: Sequence[Example]) -> tuple[Twin, ...]:
    """Examples that are nearly an earlier one, the nearest named; copies are not among them."""
    copied = {twin.line for twin in copies(examples)}
    rest = [example for example in examples if example.line not in copied]
    hashes = _distinctive([_shingles(example) for example in rest])
    index: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    lines, found = [example.line for example in rest], []
    for at, mine in enumerate(hashes):
        keys = _bands(mine)
        if twin := _nearest(rest[at].line, mine, keys, index, hashes, lines):
            found.append(twin)
        _add(index, keys, at)
    return tuple(found)


def leaks(train: Sequence[Example], held: Sequence[Example]) -> tuple[Twin, ...]:
    """Examples of `held` that ask what one of `train` asks, or are nearly one of them; `other` is a line of `train`."""
    asked = {_digest(example, len(example.messages) - 1): example.line for example in reversed(train)}
    hashes = _distinctive([_shingles(example) for example in (*train, *held)])
    index: dict[tuple[int, bytes], list[int]] = defaultdict(list)
    for at in range(len(train)):
        _add(index, _bands(hashes[at]), at)
    lines, found = [example.line for example in train], []
    for example, mine in zip(held, hashes[len(train) :], strict=True):
        question = _digest(example, len(example.messages) - 1)
        if question in asked:
            found.append(Twin(example.line, asked[question], 1.0))
        elif twin := _nearest(example.line, mine, _bands(mine), index, hashes, lines):
            found.append(twin)
    return tuple(found)


def _nearest(
    line: int,
    mine: _Hashes,
    keys: Sequence[tuple[int, bytes]],
    index: dict[tuple[int, bytes], list[int]],
    hashes: Sequence[_Hashes],
    lines: Sequence[int],
) -> Twin | None:
    candidates = {at for key in keys for at in index.get(key, ())}
    similar = [(_jaccard(mine, hashes[at]), -lines[at]) for at in candidates]
    similarity, other = max(similar, default=(0.0, 0))
    return Twin(line, -other, round(similarity, 3)) if similarity >= SIMILAR else None


def _add(index: dict[tuple[int, bytes], list[int]], keys: Sequence[tuple[int, bytes]], at: int) -> None:
    for key in keys:
        # A crowd of like examples needs no more than a few to be recognised by.
        if len(index[key]) < _PER_BUCKET:
            index[key].append(at)


def _normal(text: str) -> str:
    return " ".join(text.casefold().split())


def _digest(example: Example, count: int) -> bytes:
    messages = example.messages[:count]
    turns = "\0".join(f"{each.role}\1{_normal(each.content)}\1{each.tool_calls}" for each in messages)
    return hashlib.sha256(turns.encode()).digest()


def _shingles(example: Example) -> _Hashes:
    """Sorted distinct hashes of all sequences of characters of what user and assistant say."""
    text = "\n".join(_normal(message.content) for message in example.messages if message.role != "system")
    codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < _SHINGLE:
        return np.empty(0, dtype=np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, _SHINGLE)
    return np.unique(_mixed((windows * _PLACES).sum(axis=1, dtype=np.uint64)))


def _distinctive(hashes: list[_Hashes]) -> list[_Hashes]:
    """Without what is in more than a tenth of the examples; nothing is left of one that has little of its own."""
    counts = Counter(np.concatenate(hashes).tolist() if hashes else [])
    most = max(10, _BOILERPLATE * len(hashes))
    common = np.array(sorted(each for each, count in counts.items() if count > most), dtype=np.uint64)
    rest = [np.setdiff1d(each, common, assume_unique=True) for each in hashes]
    return [each if len(each) >= _FEWEST else np.empty(0, dtype=np.uint64) for each in rest]


def _bands(hashes: _Hashes) -> list[tuple[int, bytes]]:
    if not len(hashes):
        return []
    smallest = _mixed(hashes[:, None] ^ _SEEDS[None, :]).min(axis=0).reshape(_BANDS, _ROWS)
    return [(band, row.tobytes()) for band, row in enumerate(smallest)]


def _jaccard(mine: _Hashes, other: _Hashes) -> float:
    shared = len(np.intersect1d(mine, other, assume_unique=True))
    return shared / (len(mine) + len(other) - shared)


def _mixed(values: _Hashes) -> _Hashes:
    """The finalizer of splitmix64: each bit of the result depends on all of the value's."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


_PLACES = np.array([0x100000001B3**power % 2**64 for power in range(_SHINGLE)], dtype=np.uint64)
_SEEDS = np.random.default_rng(0).integers(0, 2**63, _BANDS * _ROWS, dtype=np.uint64)
