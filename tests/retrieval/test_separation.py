"""Figures of separation, against what anyone can count by hand and against the definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.separation import auroc, curve, wilson

SCORES = st.lists(st.integers(0, 12).map(lambda tenths: tenths / 10), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_auroc_is_the_chance_of_ranking_a_pair_rightly(covered: list[float], uncovered: list[float]) -> None:
    won = sum((a > b) + 0.5 * (a == b) for a in covered for b in uncovered) / (len(covered) * len(uncovered))
    found = auroc(covered, uncovered)
    assert found.value == pytest.approx(won, abs=1e-4)
    assert 0 <= found.low <= found.value <= found.high <= 1


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    truth = 0.9214  # of two normal distributions two standard deviations apart: Phi(2 / sqrt 2)
    hits = 0
    for _ in range(300):
        found = auroc(random.normal(2, 1, 60).tolist(), random.normal(0, 1, 60).tolist())
        hits += found.low <= truth <= found.high
    assert 0.90 <= hits / 300 <= 0.99


def test_complete_separation_of_few_is_not_certainty() -> None:
    assert auroc([2.0] * 10, [1.0] * 10).low < 0.8
    assert auroc([2.0] * 1000, [1.0] * 1000).low > 0.99


def test_wilsons_interval_as_published() -> None:
    found = wilson(0.1, 20)  # Newcombe 1998
    assert (found.low, found.high) == (pytest.approx(0.0279, abs=1e-3), pytest.approx(0.3010, abs=1e-3))


@given(SCORES, SCORES)
def test_every_point_says_what_its_minimum_does(covered: list[float], uncovered: list[float]) -> None:
    for point in curve(covered, uncovered):
        hits = sum(score >= point.min_score for score in covered)
        slips = sum(score >= point.min_score for score in uncovered)
        assert point.precision == pytest.approx(hits / (hits + slips), abs=1e-4)
        assert point.answered == pytest.approx(hits / len(covered), abs=1e-4)
        assert point.refused == pytest.approx(1 - slips / len(uncovered), abs=1e-4)
