"""Prices of our own, so that the answers in these tests stay as the shipped prices change."""

from datetime import date
from decimal import Decimal

from benchmarks.advice.needs import Needs, read_needs
from benchmarks.advice.terms import Terms, read_terms
from benchmarks.prices import ApiPrice, GpuPrice, PriceBook

TODAY = date(2026, 11, 20)


def _api(name: str, prompt: str, answer: str) -> ApiPrice:
    return ApiPrice(name, "us", Decimal(prompt), Decimal(prompt), Decimal(answer), "a test", "2026-11-20", None)


_GPU = GpuPrice("a10g", (), Decimal("1.5"), "a test", "2026-11-20", "quoted")
BOOK = PriceBook(
    (_api("gpt-6-luna", "0.10", "0.50"), _api("dear", "2.50", "10.00"), _api("ft:dear", "3.75", "15.00")),
    (_GPU,),
    GpuPrice("cpu", (), Decimal("0.1"), "a test", "2026-11-20", "assumed"),
)
CHEAP = read_terms(BOOK, TODAY)
DEAR = read_terms(BOOK, TODAY, ("a test", {"hosted": "dear"}))


def terms(**values: object) -> Terms:
    return read_terms(BOOK, TODAY, ("a test", values))


def needs(**values: object) -> Needs:
    return read_needs(("a test", values))[0]
