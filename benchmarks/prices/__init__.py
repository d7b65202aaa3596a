"""Dated prices with their sources, read from prices.yaml and checked row by row.

Money is Decimal from the file to the bill, so prices are quoted strings: a YAML float would already be rounded.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml

from benchmarks.errors import PriceError
from serving.accounting.cost import ApiPrice, GpuPrice

__all__ = ["SHIPPED", "ApiPrice", "GpuPrice", "PriceBook", "Unit", "UnitPrice", "load_prices"]

SHIPPED = Path(__file__).with_name("prices.yaml")

_SHARED = {"id", "kind", "provider", "source", "as_of", "deprecates_on", "basis"}
_KEYS = {
    "api": _SHARED | {"input_usd_per_mtok", "cached_input_usd_per_mtok", "output_usd_per_mtok", "successor"},
    "unit": _SHARED | {"usd", "per"},
    "gpu": _SHARED | {"name_patterns", "usd_per_hour"},
    "cpu": _SHARED | {"usd_per_hour"},
}
_BASES = ("quoted", "assumed")

# What one unit price buys: a million tokens embedded or trained on once, a thousand searches of a hosted store.
Unit = Literal["mtok_embedded", "mtok_trained", "thousand_searches"]


@dataclass(frozen=True)
class UnitPrice:
    """A price that is neither a hosted model's nor a machine's, in US dollars per `per`."""

    id: str
    provider: str
    usd: Decimal
    per: Unit
    source: str
    as_of: str
    deprecates_on: str | None


_Price = TypeVar("_Price", ApiPrice, GpuPrice, UnitPrice)


@dataclass(frozen=True)
class PriceBook:
    """Every price of one file."""

    api_prices: tuple[ApiPrice, ...]
    gpu_prices: tuple[GpuPrice, ...]
    cpu: GpuPrice
    unit_prices: tuple[UnitPrice, ...] = ()

    def api(self, model_id: str) -> ApiPrice:
        """The hosted model's price; PriceError names the nearest id when there is none."""
        return _find(self.api_prices, model_id, "the hosted model")

    def gpu(self, price_id: str) -> GpuPrice:
        """The machine price with this id, the CPU's among them; PriceError names the nearest id when there is none."""
        return _find((*self.gpu_prices, self.cpu), price_id, "the machine")

    def unit(self, price_id: str) -> UnitPrice:
        """The unit price with this id; PriceError names the nearest id when there is none."""
        return _find(self.unit_prices, price_id, "the unit")

    def gpu_for(self, device_name: str) -> GpuPrice:
        """The price of the GPU that nvidia-smi calls `device_name`; PriceError when no row covers it."""
        for price in self.gpu_prices:
            if any(fnmatchcase(device_name, pattern) for pattern in price.name_patterns):
                return price
        known = ", ".join(price.id for price in self.gpu_prices)
        raise PriceError(f"no price for the GPU {device_name!r} (known: {known}); set cost.usd_per_hour")


def _find(prices: Sequence[_Price], price_id: str, what: str) -> _Price:
    by_id = {price.id: price for price in prices}
    if price_id in by_id:
        return by_id[price_id]
    nearest = difflib.get_close_matches(price_id, by_id, n=1, cutoff=0)
    hint = f"the nearest is {nearest[0]!r}" if nearest else "the price file has no such rows; add one"
    raise PriceError(f"no price for {what} {price_id!r}; {hint}")


def load_prices(path: Path | None = None) -> PriceBook:
    """Reads the shipped price file, or another of the same form. PriceError names the row that is wrong."""
    source = path or SHIPPED
    try:
        rows = yaml.safe_load(source.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PriceError(f"cannot read the price file {source}: {' '.join(str(error).split())}") from error
    if not isinstance(rows, list):
        raise PriceError(f"{source} must be a list of price rows, like the shipped prices.yaml")
    by_kind: dict[str, list[Mapping[str, Any]]] = {kind: [] for kind in _KEYS}
    for number, row in enumerate(rows, start=1):
        checked = _checked(row, number)
        by_kind[checked["kind"]].append(checked)
    _refuse_repeats(row["id"] for row in rows)
    if len(by_kind["cpu"]) != 1:
        raise PriceError(f"{source} needs exactly one cpu row, the price of a machine without a GPU")
    hosted = {row["id"] for row in by_kind["api"]}
    return PriceBook(
        api_prices=tuple(_api(row, hosted) for row in by_kind["api"]),
        gpu_prices=tuple(map(_machine, by_kind["gpu"])),
        cpu=_machine(by_kind["cpu"][0]),
        unit_prices=tuple(map(_unit, by_kind["unit"])),
    )


def _checked(row: Any, number: int) -> Mapping[str, Any]:
    """The row, once its keys and the fields that every kind shares are right."""
    if not isinstance(row, dict) or not _is_text(row.get("id")):
        raise PriceError(f"price row {number} needs an id")
    where = f"price row {row['id']!r}"
    keys = _KEYS.get(str(row.get("kind")))
    if keys is None:
        raise PriceError(f"{where}: kind must be one of {', '.join(_KEYS)}")
    if unknown := sorted(str(key) for key in row if key not in keys):
        raise PriceError(f"{where}: unknown key {unknown[0]!r}; it may have {', '.join(sorted(keys))}")
    if missing := sorted(keys - row.keys()):
        raise PriceError(f"{where}: {missing[0]} is missing")
    _check_provenance(row, where)
    return row


def _check_provenance(row: Mapping[str, Any], where: str) -> None:
    """Every price says where it comes from, when it was seen and how far to trust it."""
    if row["basis"] not in _BASES:
        raise PriceError(f"{where}: basis must be one of {', '.join(_BASES)}")
    if not (_is_text(row["source"]) and _is_text(row["provider"])):
        raise PriceError(f"{where}: provider and source must say where the price comes from")
    if not _is_day(row["as_of"]) or not (row["deprecates_on"] is None or _is_day(row["deprecates_on"])):
        raise PriceError(f"{where}: as_of is a date (YYYY-MM-DD), deprecates_on a date or null")


def _api(row: Mapping[str, Any], hosted: Set[str]) -> ApiPrice:
    if row["successor"] is not None and (row["successor"] not in hosted or row["successor"] == row["id"]):
        raise PriceError(f"price row {row['id']!r}: successor must be the id of another api row, or null")
    return ApiPrice(
        id=row["id"],
        provider=row["provider"],
        input_usd_per_mtok=_money(row, "input_usd_per_mtok"),
        cached_input_usd_per_mtok=_money(row, "cached_input_usd_per_mtok"),
        output_usd_per_mtok=_money(row, "output_usd_per_mtok"),
        source=row["source"],
        as_of=row["as_of"].isoformat(),
        deprecates_on=_day(row["deprecates_on"]),
        successor=row["successor"],
    )


def _unit(row: Mapping[str, Any]) -> UnitPrice:
    if row["per"] not in get_args(Unit):
        raise PriceError(f"price row {row['id']!r}: per must be one of {', '.join(get_args(Unit))}")
    return UnitPrice(
        id=row["id"],
        provider=row["provider"],
        usd=_money(row, "usd"),
        per=row["per"],
        source=row["source"],
        as_of=row["as_of"].isoformat(),
        deprecates_on=_day(row["deprecates_on"]),
    )


def _machine(row: Mapping[str, Any]) -> GpuPrice:
    patterns = row.get("name_patterns", [])
    if not isinstance(patterns, list) or not all(_is_text(pattern) for pattern in patterns):
        raise PriceError(f"price row {row['id']!r}: name_patterns must be a list of device names from nvidia-smi")
    return GpuPrice(
        id=row["id"],
        name_patterns=tuple(patterns),
        usd_per_hour=_money(row, "usd_per_hour"),
        source=row["source"],
        as_of=row["as_of"].isoformat(),
        basis=row["basis"],
        deprecates_on=_day(row["deprecates_on"]),
    )


def _money(row: Mapping[str, Any], key: str) -> Decimal:
    value = row[key]
    try:
        amount = Decimal(value) if isinstance(value, str) else None
    except InvalidOperation:
        amount = None
    if amount is None or not amount.is_finite() or amount < 0:
        raise PriceError(f'price row {row["id"]!r}: {key} must be a quoted amount in USD, such as "0.15"')
    return amount


def _refuse_repeats(ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for row_id in ids:
        if row_id in seen:
            raise PriceError(f"price row {row_id!r} appears twice; keep one")
        seen.add(row_id)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _day(value: date | None) -> str | None:
    return value.isoformat() if value else None


def _is_day(value: object) -> bool:
    return isinstance(value, date) and not isinstance(value, datetime)
