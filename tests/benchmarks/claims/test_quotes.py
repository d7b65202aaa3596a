"""Published figures: dated, sourced, and as the price library knows them where it does."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from genai_prices import Usage, calc_price

from benchmarks.errors import PriceError
from benchmarks.prices.quotes import load_quotes


def test_quotes_are_dated_and_sourced() -> None:
    quotes = load_quotes()
    assert all(quote.source and quote.as_of and quote.unit for quote in quotes.values())


@pytest.mark.parametrize(
    "row",
    ["- {id: a}", "- {id: a, value: 1.5, unit: x, source: y, as_of: 2026-01-01}",
     "- {id: a, value: '1', unit: x, source: y, as_of: soon}", "a: b"],
)  # fmt: skip
def test_a_quote_without_its_day_or_source_is_refused(tmp_path: Path, row: str) -> None:
    (tmp_path / "quotes.yaml").write_text(row, encoding="utf-8")
    with pytest.raises(PriceError):
        load_quotes(tmp_path / "quotes.yaml")


@pytest.mark.parametrize(
    ("quote_id", "name"),
    [
        ("gpt-3.5-turbo-1106-input", "gpt-3.5-turbo-1106"),
        ("ft-gpt-3.5-turbo-input", "ft:gpt-3.5-turbo-1106:anyone::any"),
    ],
)
def test_token_prices_agree_with_genai_prices(quote_id: str, name: str) -> None:
    quote = load_quotes()[quote_id]
    on = datetime.fromisoformat(quote.as_of).replace(tzinfo=UTC)
    theirs = calc_price(Usage(input_tokens=1_000_000), name, provider_id="openai", genai_request_timestamp=on)
    assert (quote.value, quote.unit) == (theirs.total_price, "USD/Mtok")
