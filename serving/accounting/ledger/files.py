"""Lines of the ledger as CSV or Parquet, piece by piece, so that any number of them fits in memory."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

Line = Mapping[str, Any]
_AT_ONCE = 10_000
# US dollars to a tenth of a nano-dollar, as the ledger keeps them.
_MONEY = pa.decimal128(28, 10)
_FLAGS = ("stream", "tokens_estimated", "prefill_apportioned", "simulated")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_csv(lines: Iterable[Line], columns: Sequence[str], to: TextIO) -> int:
    """Returns how many lines there were. A text that a spreadsheet would run as a formula gets a `'` before it."""
    writer = csv.writer(to, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for line in lines:
        writer.writerow([_cell(line[name]) for name in columns])
        count += 1
    return count


def write_parquet(lines: Iterable[Line], columns: Sequence[str], to: Path) -> int:
    """Returns how many lines there were. Columns of money are decimals, times are UTC timestamps."""
    schema = pa.schema([(name, _kind(name)) for name in columns])
    count = 0
    with pq.ParquetWriter(to, schema) as writer:
        going = iter(lines)
        while piece := list(islice(going, _AT_ONCE)):
            rows = [{name: _value(name, line[name]) for name in columns} for line in piece]
            writer.write_table(pa.Table.from_pylist(rows, schema))
            count += len(rows)
    return count


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(_FORMULA) and not _is_number(value):
        return f"'{value}"
    return value


def _is_number(text: str) -> bool:
    return text.lstrip("-").replace(".", "", 1).isdigit()


def _kind(name: str) -> pa.DataType:
    if name.endswith("_usd"):
        return _MONEY
    if name.endswith("_at"):
        return pa.timestamp("us", tz="UTC")
    if name.endswith("_s") or name == "best_score":
        return pa.float64()
    if name in _FLAGS:
        return pa.bool_()
    return pa.int64() if name.endswith("_tokens") or name in ("passages", "status", "period") else pa.string()


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name.endswith("_usd"):
        return Decimal(value)
    if name.endswith("_at"):
        return round(value * 1_000_000)
    return bool(value) if name in _FLAGS else value
