"""Thresholds by inversion, against functions whose answer is known."""

from decimal import ROUND_CEILING, Decimal

import pytest

from benchmarks.claims.claim import Expectation
from benchmarks.claims.expression import Range
from benchmarks.claims.search import Span, spans

LINEAR = Range(Decimal(0), Decimal(100), "1", "a test", linear=True)
WIDE = Range(Decimal(1), Decimal("1e8"), "1", "a test")


def ends(found: tuple[Span, ...]) -> list[tuple[float | None, ...]]:
    return [tuple(None if end is None else float(end) for end in (span.low, span.high)) for span in found]


def test_a_rising_line() -> None:
    found = spans(lambda x: 3 * x, LINEAR, Expectation(Decimal(60), None))
    assert ends(found) == [(pytest.approx(20), None)]


def test_a_falling_line_on_a_log_scale() -> None:
    found = spans(lambda x: 1000 / x, WIDE, Expectation(Decimal("0.002"), None))
    assert ends(found) == [(None, pytest.approx(500_000))]


def test_everywhere_and_nowhere() -> None:
    assert spans(lambda x: x, WIDE, Expectation(Decimal(0), None)) == (Span(None, None),)
    assert spans(lambda x: x, WIDE, Expectation(None, Decimal("0.5"))) == ()


def test_an_interval_far_narrower_than_a_step_is_found() -> None:
    found = spans(lambda x: x, WIDE, Expectation(Decimal(70_000), Decimal(70_001)))
    assert ends(found) == [(pytest.approx(70_000), pytest.approx(70_001))]


def test_two_separate_parts() -> None:
    found = spans(lambda x: (x - 50) ** 2, LINEAR, Expectation(Decimal(900), None))
    assert ends(found) == [(None, pytest.approx(20)), (pytest.approx(80), None)]


def test_a_staircase_that_starts_at_its_bound() -> None:
    found = spans(_rent, WIDE, Expectation(Decimal(359), Decimal(361)))
    assert ends(found) == [(None, pytest.approx(432_000))]


def _rent(volume: Decimal) -> Decimal:
    return 360 * (volume / 432_000).to_integral_value(ROUND_CEILING)


def test_a_tie_is_not_above_and_is_at_least() -> None:
    assert spans(lambda _: Decimal(0), LINEAR, Expectation(Decimal(0), None, strict=True)) == ()
    assert spans(lambda _: Decimal(0), LINEAR, Expectation(Decimal(0), None)) == (Span(None, None),)


def test_infinity_is_never_reached() -> None:
    found = spans(lambda x: Decimal("Infinity") if x < 30 else x, LINEAR, Expectation(None, Decimal(60)))
    assert ends(found) == [(pytest.approx(30), pytest.approx(60))]
