"""The fused order follows both scores and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.fusion import fuse, promising

IDS = st.sampled_from([f"d-{n}-0" for n in range(12)])
DENSE = st.dictionaries(IDS, st.floats(-1, 1), min_size=1)
LEXICAL = st.dictionaries(IDS, st.floats(0.01, 60))


@pytest.mark.parametrize(
    ("dense", "lexical", "order"),
    [
        ({"a": 0.6, "b": 0.5}, {}, ["a", "b"]),
        ({"a": 0.6, "b": 0.5}, {"b": 3.0}, ["b", "a"]),
        ({"a": 0.9, "b": 0.1}, {"b": 3.0}, ["a", "b"]),  # a shared word does not outweigh another subject
        ({"a": 0.5, "b": 0.5}, {"a": 1.0, "b": 9.0}, ["b", "a"]),
        ({"b": 0.5, "a": 0.5}, {}, ["a", "b"]),
        ({"a": -1.0, "b": -1.0}, {"b": 1.0}, ["b", "a"]),
        ({}, {}, []),
    ],
)
def test_both_scores_count(dense: dict[str, float], lexical: dict[str, float], order: list[str]) -> None:
    assert fuse(dense, lexical) == order


@given(DENSE, LEXICAL)
def test_one_better_in_both_stands_first(dense: dict[str, float], lexical: dict[str, float]) -> None:
    words = {id: score for id, score in lexical.items() if id in dense}
    ranked = fuse(dense, words)
    assert sorted(ranked) == sorted(dense)
    for at, first in enumerate(ranked):
        for second in ranked[at + 1 :]:
            ahead = dense[second] > dense[first] + 1e-9 and words.get(second, 0) > words.get(first, 0) + 1e-9
            assert not ahead


@given(DENSE, LEXICAL, st.integers(-4, 6))
def test_the_scale_of_bm25_does_not_matter(dense: dict[str, float], lexical: dict[str, float], power: int) -> None:
    assert fuse(dense, {id: score * 2.0**power for id, score in lexical.items()}) == fuse(dense, lexical)


@given(DENSE, LEXICAL)
def test_fewer_candidates_do_not_change_the_order(dense: dict[str, float], lexical: dict[str, float]) -> None:
    words = {id: score for id, score in lexical.items() if id in dense}
    ranked = fuse(dense, words)
    best = {max(dense, key=dense.__getitem__), *([max(words, key=words.__getitem__)] if words else [])}
    gone = next((id for id in reversed(ranked) if id not in best), None)
    for scores in (dense, words):
        scores.pop(gone or "", None)
    assert fuse(dense, words) == [id for id in ranked if id != gone]


@given(DENSE, LEXICAL, st.integers(1, 14), st.integers(0, 12))
def test_what_is_not_promising_could_not_have_been_among_the_first(
    cosines: dict[str, float], lexical: dict[str, float], first: int, depth: int
) -> None:
    words = {id: score for id, score in lexical.items() if id in cosines}
    nearest = dict(sorted(cosines.items(), key=lambda one: -one[1])[: depth + 1])
    read = promising(nearest, words, first)
    assert set(read) <= words.keys() - nearest.keys()
    every = fuse(nearest | {id: cosines[id] for id in words}, words)
    assert fuse(nearest | {id: cosines[id] for id in read}, words)[:first] == every[:first]


def test_most_need_not_be_read() -> None:
    nearest = {f"n{at}": 0.9 - at / 100 for at in range(20)}
    words = {f"w{at}": 5.0 / (at + 1) for at in range(20)}
    assert promising(nearest, words, 5) == ["w0", "w1", "w2"]
