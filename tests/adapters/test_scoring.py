"""The interval is Wilson's, and only a difference to the base model counts as gained."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.scoring import format_scores, has_format, wilson


# Published values: Newcombe 1998, table I, method 3 (score interval without continuity correction).
@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_against_published_intervals(successes: int, n: int, low: float, high: float) -> None:
    assert wilson(successes, n) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_a_share(trial: tuple[int, int]) -> None:
    successes, n = trial
    low, high = wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    mirrored = wilson(n - successes, n)
    assert (1 - high, 1 - low) == (pytest.approx(mirrored[0], abs=1e-9), pytest.approx(mirrored[1], abs=1e-9))


def test_the_whole_answer_must_have_the_format() -> None:
    assert has_format(r"A: [^\n]+\nbye", "  A: yes\nbye\n")
    assert not has_format(r"A: [^\n]+\nbye", "Well. A: yes\nbye")
    assert not has_format(r"A: [^\n]+\nbye", "A: yes\nbye\nand more")


def test_only_what_the_base_does_not_do_counts_as_gained() -> None:
    scores = {score.name: score for score in format_scores("y", ["y", "y", "n", "n"], ["n", "y", "y", "n"])}
    assert {name: score.value for name, score in scores.items()} == {
        "format_gained": 0.25,
        "format_adapter": 0.5,
        "format_base": 0.5,
    }
    gained = scores["format_gained"]
    assert gained.n == 4 and gained.low < 0.25 < gained.high


def test_answers_must_pair_up() -> None:
    with pytest.raises(ValueError):
        format_scores("y", ["y"], [])
