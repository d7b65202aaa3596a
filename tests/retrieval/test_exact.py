"""Scoring all passages of a few documents: as numpy says, from memory the second time, and within its budget."""

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.exact import ExactScores

SIZES = {"a-1": 3, "b-2": 1, "c-3": 2}
QUESTION = np.array([0.6, 0.8, 0.0], dtype=np.float32)


class Vectors:
    """Passages of SIZES, not of length 1, and how many were read."""

    def __init__(self) -> None:
        chance = np.random.default_rng(0)
        ids = [f"{version}-{index}" for version, size in SIZES.items() for index in range(size)]
        self.rows = dict(zip(ids, 3 * chance.normal(size=(len(ids), 3)).astype(np.float32), strict=True))
        self.read = 0

    def embeddings(self, ids: list[str]) -> tuple[list[str], NDArray[np.float32]]:
        found = [id for id in reversed(ids) if id in self.rows]  # in any order
        self.read += len(found)
        return found, np.array([self.rows[id] for id in found], dtype=np.float32)

    def cosines(self) -> dict[str, float]:
        found = {id: float(row @ QUESTION / np.linalg.norm(row)) for id, row in self.rows.items()}
        return dict(sorted(found.items(), key=lambda one: -one[1]))


def test_the_nearest_of_all_best_first() -> None:
    vectors = Vectors()
    scores = ExactScores(vectors)
    for limit in (1, 4, 100):
        found = scores.nearest(SIZES, QUESTION, limit)
        assert list(found) == list(vectors.cosines())[:limit]
        assert found == pytest.approx({id: vectors.cosines()[id] for id in found}, abs=1e-6)
    assert vectors.read == 6
    assert set(scores.nearest({"c-3": 2}, 2 * QUESTION, 9)) == {"c-3-0", "c-3-1"}
    assert scores.nearest({}, QUESTION, 9) == {}


def test_the_oldest_are_forgotten() -> None:
    vectors = Vectors()
    scores = ExactScores(vectors, budget=4 * 3 * 4)
    for version, read in (("a-1", 3), ("a-1", 3), ("c-3", 5), ("c-3", 5), ("a-1", 8)):
        scores.nearest({version: SIZES[version]}, QUESTION, 1)
        assert vectors.read == read
    assert len(scores.nearest(SIZES, QUESTION, 9)) == 6


def test_a_version_that_is_not_whole_is_not_kept() -> None:
    vectors = Vectors()
    scores = ExactScores(vectors)
    row = vectors.rows.pop("a-1-1")
    assert set(scores.nearest(SIZES, QUESTION, 9)) == {"b-2-0", "c-3-0", "c-3-1"}
    vectors.rows["a-1-1"] = row
    assert len(scores.nearest(SIZES, QUESTION, 9)) == 6
    assert scores.nearest({"erased-1": 2}, QUESTION, 9) == {}
