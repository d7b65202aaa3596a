"""Old prices are flagged, retired models fall to their successors, and both are said."""

from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal

import pytest

from benchmarks.prices import ApiPrice, PriceBook, load_prices
from benchmarks.prices.validity import current, has_lapsed, is_stale, notes
from serving.accounting.cost import GpuPrice

SEEN = date(2026, 11, 10)
BOOK = load_prices()


def row(model: str, ends: str | None = None, successor: str | None = None) -> ApiPrice:
    return ApiPrice(model, "x", Decimal(1), Decimal(1), Decimal(1), "a test", SEEN.isoformat(), ends, successor)


def book(*rows: ApiPrice) -> PriceBook:
    return PriceBook(rows, (), BOOK.cpu)


def test_a_price_is_stale_after_ninety_days() -> None:
    price = row("a")
    assert not is_stale(price, SEEN + timedelta(days=90))
    assert is_stale(price, SEEN + timedelta(days=91))
    assert "seen on 2026-11-10" in notes(price, SEEN + timedelta(days=91))[0]
    assert notes(price, SEEN) == ()


def test_a_configured_price_without_a_date_is_stale() -> None:
    assert is_stale(GpuPrice("configured", (), Decimal(1), "mine", "not stated", "configured"), SEEN)


def test_a_price_lapses_on_its_day_and_is_announced_before() -> None:
    price = row("a", ends="2027-01-14", successor="b")
    assert not has_lapsed(price, date(2027, 1, 13))
    assert has_lapsed(price, date(2027, 1, 14))
    assert notes(price, SEEN) == ("a holds until 2027-01-14; its successor is b",)


def test_a_retired_model_falls_to_its_successor_and_on() -> None:
    rows = book(row("a", "2026-01-01", "b"), row("b", "2026-06-01", "c"), row("c"))
    price, said = current(rows, "a", SEEN)
    assert price.id == "c"
    assert [note.partition(" was")[0] for note in said] == ["a", "b"]


def test_a_retired_model_without_successor_keeps_its_price_and_says_so() -> None:
    price, said = current(book(row("a", "2026-01-01")), "a", SEEN)
    assert price.id == "a"
    assert "has not held since 2026-01-01" in said[0]


def test_successors_that_go_round_in_circles_end() -> None:
    rows = book(row("a", "2026-01-01", "b"), row("b", "2026-01-01", "a"))
    assert current(rows, "a", SEEN)[0].id == "b"


@pytest.mark.parametrize(
    ("model", "on", "priced_as"),
    [
        ("claude-3-5-haiku", SEEN, "claude-haiku-4-5"),
        ("gpt-4o-mini", SEEN, "gpt-4o-mini"),
        ("gpt-4o-mini", date(2027, 1, 14), "gpt-6-luna"),
    ],
)
def test_shipped_models_on_the_day(model: str, on: date, priced_as: str) -> None:
    assert current(BOOK, model, on)[0].id == priced_as


def test_the_shipped_machines_keep_their_end() -> None:
    price = replace(BOOK.gpu("a10g"), deprecates_on="2026-11-01")
    assert "has not held since" in notes(price, SEEN)[-1]
