"""What the documents say about volumes and rates, read from the claims' own data."""

from dataclasses import dataclass
from decimal import Decimal

from benchmarks.claims.claim import Book
from benchmarks.claims.expression import Number, Range, leaves

_VOLUME = "queries_per_month"
# Claims that turn on a volume: retrieval below it, fine-tuning above it, a self-hosted fleet at it.
_CLAIMS = (("C16", "high"), ("C17", "low"), ("D50", "value"))


@dataclass(frozen=True, slots=True)
class Threshold:
    """A monthly volume that a claim names."""

    claim: str
    says: str
    queries: Decimal


def thresholds(book: Book) -> tuple[Threshold, ...]:
    """Those that the book holds."""
    found = []
    for name, end in _CLAIMS:
        claim = book.claims.get(name)
        if claim is None:
            continue
        calls = [call for test in claim.tests for call in test.cases.values()]
        named = [leaf for call in calls for key, leaf in leaves(call) if key == _VOLUME]
        values = [value for leaf in named if (value := _end(leaf, end)) is not None]
        if values:
            found.append(Threshold(name, claim.says, values[0]))
    return tuple(found)


def _end(leaf: object, end: str) -> Decimal | None:
    if isinstance(leaf, Range):
        return leaf.high if end == "high" else leaf.low
    return leaf.value if isinstance(leaf, Number) else None
