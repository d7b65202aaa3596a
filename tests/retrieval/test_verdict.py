"""Better means beyond chance."""

import random

import pytest

from retrieval.separation import Interval
from retrieval.verdict import Comparison, Setup, Verdict, compare, ndcg


def test_ndcg_by_hand() -> None:
    assert ndcg(["a", "b"], frozenset("a")) == 1
    assert ndcg(["b", "a"], frozenset("a")) == pytest.approx(0.6309, abs=1e-4)
    assert ndcg(["b", "a"], frozenset("ac")) == pytest.approx(0.6309 / 1.6309, abs=1e-4)
    assert ndcg([*"bcdefghijk", "a"], frozenset("a")) == 0  # the eleventh place
    assert ndcg([], frozenset("a")) == 0


def test_a_clear_gain_a_clear_loss_and_noise() -> None:
    chance = random.Random(1)
    plain = [chance.random() for _ in range(200)]
    gain, loss, noise = (
        compare(plain, [each + chance.gauss(shift, 0.1) for each in plain]) for shift in (0.05, -0.05, 0)
    )
    assert (gain.better, loss.better, noise.better) == (True, False, False)
    assert gain.difference.low < 0.05 < gain.difference.high
    assert loss.difference.high < 0
    assert [each.told().rpartition(", ")[2] for each in (gain, loss, noise)] == [
        "better",
        "worse",
        "not better beyond chance",
    ]


def test_the_interval_covers_as_often_as_it_says() -> None:
    chance = random.Random(2)
    zeros = [0.0] * 60
    missed = sum(
        not found.difference.low <= 0 <= found.difference.high
        for found in (compare(zeros, [chance.gauss(0, 1) for _ in zeros]) for _ in range(100))
    )
    assert missed <= 14  # 5 expected; 99.9 % of such runs have fewer


def test_the_same_scores_are_not_better() -> None:
    assert compare([0.5] * 40, [0.5] * 40).difference == Interval(0, 0, 0)
    assert not compare([0.5] * 40, [0.5] * 40).better


def test_a_verdict_is_read_as_it_was_written() -> None:
    comparison = Comparison(40, 0.5, 0.6, Interval(0.1, 0.05, 0.15))
    setup = Setup("abc", "def", "hybrid", 30)
    verdict = Verdict("acme", "kb", "r", setup, comparison, True, "0" * 64, "2026-01-01T00:00:00", ("a", "b"), 9)
    assert Verdict.from_json(verdict.to_json()) == verdict
    assert verdict.summary()["documents"] == 2
