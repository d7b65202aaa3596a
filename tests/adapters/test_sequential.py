"""The canary's test keeps its promise about false alarms, whenever it is read, and finds a canary that is worse."""

import math

import numpy as np
import pytest

from adapters.sequential import SequentialTest

ALPHA = 0.05


def stopped_at(seed: int, prod: float, canary: float, share: float, answers: int, votes: bool = True) -> int | None:
    """After how many answers the canary is called worse, looking after every one; None: never."""
    random = np.random.default_rng(seed)
    test = SequentialTest(share)
    trial = random.random(answers) < share
    # Votes are 0 or 1; scores have the same mean and lie between.
    draws = random.random(answers) if votes else random.beta(2, 2, answers)
    for number in range(answers):
        mean = canary if trial[number] else prod
        score = float(draws[number] < mean) if votes else min(1.0, draws[number] * 2 * mean)
        test.observe(score, canary=bool(trial[number]))
        if test.evidence.worse(ALPHA):
            return number + 1
    return None


@pytest.mark.parametrize("share", [0.1, 0.5])
@pytest.mark.parametrize("mean", [0.5, 0.9])
def test_equal_versions_are_told_apart_in_at_most_a_share_alpha(mean: float, share: float) -> None:
    runs, answers = 200, 600
    alarms = sum(stopped_at(seed, mean, mean, share, answers) is not None for seed in range(runs))
    # Three standard errors above alpha would be bad luck once in 700 runs; it lies well below, as it must.
    assert alarms / runs <= ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / runs)


def test_a_better_canary_is_left_alone() -> None:
    alarms = sum(stopped_at(seed, 0.7, 0.9, 0.5, 600) is not None for seed in range(100))
    assert alarms <= 2


@pytest.mark.parametrize(
    ("prod", "canary", "share", "answers"), [(0.9, 0.5, 0.5, 120), (0.9, 0.5, 0.1, 500), (0.95, 0.8, 0.5, 600)]
)
def test_a_worse_canary_is_found(prod: float, canary: float, share: float, answers: int) -> None:
    found = [stopped_at(seed, prod, canary, share, answers) for seed in range(60)]
    assert sum(each is not None for each in found) >= 0.8 * 60


def test_scores_between_nought_and_one_keep_the_promise_too() -> None:
    alarms = sum(stopped_at(seed, 0.5, 0.5, 0.5, 600, votes=False) is not None for seed in range(100))
    assert alarms <= ALPHA * 100 + 6


def test_the_expected_payment_of_a_block_never_exceeds_the_stake() -> None:
    """The proof in the module, on a grid of truths: a block pays at most 1 on average if the canary is no worse."""
    grid = [0.0, 0.1, 0.5, 0.9, 1.0]
    for share in (0.5, 0.25):
        ratio = round((1 - share) / share)
        for prod in grid:
            for canary in (each for each in grid if each >= prod):
                assert expected(share, ratio, prod, canary) <= 1 + 1e-9


def expected(share: float, ratio: int, prod: float, canary: float) -> float:
    total = 0.0
    for ups in range(ratio + 1):
        for up in (0, 1):
            test = SequentialTest(share)
            for index in range(ratio):
                test.observe(float(index < ups), canary=False)
            test.observe(float(up), canary=True)
            chance = math.comb(ratio, ups) * prod**ups * (1 - prod) ** (ratio - ups)
            total += chance * (canary if up else 1 - canary) * math.exp(test.log_value)
    return total


def test_a_score_outside_is_refused() -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        SequentialTest(0.5).observe(1.5, canary=True)


def test_counts_and_means() -> None:
    test = SequentialTest(0.5)
    assert test.evidence.prod_mean is None
    for score in (1.0, 0.0):
        test.observe(score, canary=False)
    test.observe(1.0, canary=True)
    found = test.evidence
    assert (found.prod_n, found.prod_mean, found.canary_n, found.canary_mean) == (2, 0.5, 1, 1.0)
