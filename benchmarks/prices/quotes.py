"""Published figures that no bill uses: what a claim says, checked against who published it and when."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import PriceError

SHIPPED = Path(__file__).with_name("quotes.yaml")
_KEYS = {"id", "value", "unit", "source", "as_of"}


@dataclass(frozen=True, slots=True)
class Quote:
    """A figure in `unit`, as `source` showed it on the day `as_of`."""

    id: str
    value: Decimal
    unit: str
    source: str
    as_of: str


def load_quotes(path: Path = SHIPPED) -> Mapping[str, Quote]:
    """Every quote by its id. PriceError names the row that is wrong."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PriceError(f"cannot read {path.name}: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list):
        raise PriceError(f"{path.name} must be a list of quotes")
    quotes = [_quote(row) for row in rows]
    by_id = {quote.id: quote for quote in quotes}
    if len(by_id) < len(quotes):
        raise PriceError(f"{path.name}: an id appears twice; keep one")
    return by_id


def _quote(row: Any) -> Quote:
    if not isinstance(row, dict) or row.keys() != _KEYS or type(row["as_of"]) is not date:
        raise PriceError(f"a quote has {', '.join(sorted(_KEYS))}, as_of a date; this one does not: {row}")
    if not all(isinstance(row[key], str) and row[key] for key in ("id", "value", "unit", "source")):
        raise PriceError(f"quote {row['id']!r}: everything but as_of is a text in quotes")
    try:
        value = Decimal(row["value"])
    except InvalidOperation as error:
        raise PriceError(f"quote {row['id']!r}: value must be a quoted number") from error
    return Quote(row["id"], value, row["unit"], row["source"], row["as_of"].isoformat())
