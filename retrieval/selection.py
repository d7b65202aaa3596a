"""From ranked candidates to the passages that are given to the model: few, different, and whole.

One source may not crowd out the others (nor may five copies of one poisoned text), a text is not paid for twice, and
an answer that a chunk border cuts in two is put together again.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from retrieval.passages import Passage

_SHINGLE = 4  # words


@dataclass(frozen=True, slots=True)
class Limits:
    """`per_source`: passages of one document at most. `duplicate`: the share of word sequences that makes a passage a
    copy of a better one; above 1, nothing is. `neighbours`: chunks of the same section added on each side of a passage,
    in all at most as many as there are passages."""

    per_source: int = 3
    duplicate: float = 0.8
    neighbours: int = 1


Fetch = Callable[[Sequence[str]], list[Passage]]


def select(ranked: Sequence[str], fetch: Fetch, top_k: int, limits: Limits) -> list[Passage]:
    """The first `top_k` of `ranked` that are within the limits, fetched as far as needed."""
    chosen: list[Passage] = []
    shingles: list[frozenset[str]] = []
    sources: Counter[str] = Counter()
    for at in range(0, len(ranked), 2 * top_k):
        for passage in fetch(ranked[at : at + 2 * top_k]):
            if len(chosen) == top_k:
                return chosen
            words = _shingles(passage.text)
            if sources[passage.source] < limits.per_source and not _copied(words, shingles, limits.duplicate):
                chosen.append(passage)
                shingles.append(words)
                sources[passage.source] += 1
    return chosen


def expand(chosen: Sequence[Passage], fetch: Fetch, neighbours: int) -> list[Passage]:
    """The passages with their neighbours, each run of adjacent chunks as one passage in the place of its best one."""
    if not neighbours or not chosen:
        return list(chosen)
    own = {passage.id for passage in chosen}
    wanted = dict.fromkeys(
        id for step in range(1, neighbours + 1) for passage in chosen for id in _beside(passage.id, step)
    )
    sections = {_section(passage) for passage in chosen}
    spare = fetch([id for id in wanted if id not in own])
    added = [passage for passage in spare if _section(passage) in sections][: len(chosen)]
    rank = {passage.id: at for at, passage in enumerate(chosen)}
    runs = [run for run in _runs([*chosen, *added]) if any(passage.id in rank for passage in run)]
    runs.sort(key=lambda run: min(rank.get(passage.id, len(rank)) for passage in run))
    return [_joined(run, min(run, key=lambda passage: rank.get(passage.id, len(rank)))) for run in runs]


def _shingles(text: str) -> frozenset[str]:
    words = text.lower().split()
    return frozenset(" ".join(words[at : at + _SHINGLE]) for at in range(max(1, len(words) - _SHINGLE + 1)))


def _copied(words: frozenset[str], others: Iterable[frozenset[str]], limit: float) -> bool:
    """Whether one of the others holds the same: the shared part of the smaller of two, so that a part is a copy too."""
    return any(len(words & other) >= limit * min(len(words), len(other)) for other in others)


def _place(id: str) -> tuple[str, int]:
    version, _, index = id.rpartition("-")
    return version, int(index)


def _beside(id: str, step: int) -> tuple[str, str]:
    """The one after first: what a passage breaks off is more often there."""
    version, index = _place(id)
    return f"{version}-{index + step}", f"{version}-{index - step}"


def _section(passage: Passage) -> tuple[str, str]:
    return _place(passage.id)[0], passage.heading


def _runs(passages: Iterable[Passage]) -> list[list[Passage]]:
    """Adjacent chunks of one section together."""
    runs: list[list[Passage]] = []
    for passage in sorted(passages, key=lambda passage: _place(passage.id)):
        version, index = _place(passage.id)
        last = runs[-1][-1] if runs else None
        if last is not None and _place(last.id) == (version, index - 1) and last.heading == passage.heading:
            runs[-1].append(passage)
        else:
            runs.append([passage])
    return runs


def _joined(run: Sequence[Passage], best: Passage) -> Passage:
    """`start` to `end` of the document; only blank space between two chunks may differ from it."""
    text, end = run[0].text, run[0].end
    for passage in run[1:]:
        overlap = end - passage.start
        text += passage.text[overlap:] if overlap >= 0 else f"\n{passage.text}"
        end = max(end, passage.end)
    return replace(best, text=text, start=run[0].start, end=end)
