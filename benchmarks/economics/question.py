"""A what-if question, from a file and from flags: which volume, which machine, which hosted models, what is known.

Every number may be written as a value, as low:value:high, or in a file as a mapping with kind and source.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from benchmarks.economics.defaults import ASSUMED, DEMAND, make_scenario, prices
from benchmarks.economics.figures import KINDS, Figure
from benchmarks.economics.scenario import Choices, Scenario
from benchmarks.errors import ModelError
from benchmarks.prices import ApiPrice, GpuPrice, PriceBook
from benchmarks.prices.validity import current, is_stale, notes

_PRICES = (
    "usd_per_gpu_hour",
    "api_input_usd_per_mtok",
    "api_cached_input_usd_per_mtok",
    "api_output_usd_per_mtok",
)
FIGURES = (*ASSUMED, "queries_per_minute", *DEMAND, *_PRICES)
OTHERS = ("billing", "min_replicas", "spares", "hourly_load", "follow_load", "volume", "gpu", "hosted")
_HOSTED = ("gpt-4o-mini", "gpt-6-luna", "gpt-4o")
_GPU = "a10g"
# Beyond these nobody means it, and sums would lose their small parts.
_LEAST, _MOST = Decimal("1e-12"), Decimal("1e12")


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `volume`: queries a month, None for "at which volume?". One scenario per hosted model.

    `notes` says what is wrong with the prices used.
    """

    volume: Decimal | None
    scenarios: tuple[Scenario, ...]
    notes: tuple[str, ...]


def ask(book: PriceBook, today: date, *sources: tuple[str, Mapping[str, Any]]) -> Question:
    """The question put together from named sources, later ones over earlier ones: a file, then flags.

    Keys: `volume`, `gpu` and `hosted` (rows of the price file), the choices and the figures. ModelError names the key
    that is wrong or unknown.
    """
    known: dict[str, Figure] = {}
    other: dict[str, Any] = {}
    for name, values in sources:
        for key, value in values.items():
            if key in FIGURES:
                known[key] = _figure(key, value, name)
            elif key in OTHERS:
                other[key] = value
            else:
                near = difflib.get_close_matches(str(key), [*FIGURES, *OTHERS], n=1, cutoff=0)
                raise ModelError(f"{name}: {key!r} is no input of the model; did you mean {near[0]!r}?")
    said: list[str] = []
    gpu = book.gpu(str(other.pop("gpu", _GPU)))
    if "usd_per_gpu_hour" not in known:
        said += notes(gpu, today)
    scenarios: list[Scenario] = []
    volume = other.pop("volume", None)
    for model in _models(other.pop("hosted", _HOSTED)):
        price, about = current(book, model, today)
        said += about
        if price.id in {scenario.choices.hosted_model for scenario in scenarios}:
            continue  # two retired models may have one successor
        aged = {name: held for name, held in _aged(gpu, price, today).items() if name not in known}
        scenarios.append(make_scenario(gpu, price, known | aged, _choices(other)))
    return Question(None if volume is None else _volume(volume), tuple(scenarios), tuple(dict.fromkeys(said)))


def _aged(gpu: GpuPrice, api: ApiPrice, today: date) -> Mapping[str, Figure]:
    """Prices too old to be relied on: quoted still, but uncertain like an assumption."""
    old = [prefix for prefix, price in (("usd_per_gpu", gpu), ("api_", api)) if is_stale(price, today)]
    return {
        name: replace(held, source=f"{held.source} (stale)", low=held.swing()[0], high=held.swing()[1])
        for name, held in prices(gpu, api).items()
        if name.startswith(tuple(old))
    }


def read_file(path: Path) -> Mapping[str, Any]:
    """A what-if file. ModelError when it is not a mapping in YAML."""
    try:
        # Text only: YAML would read 20:30:40 as a number to base 60, and 0.1 as a binary fraction.
        found = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)  # noqa: S506  # it makes no objects
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ModelError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} must hold `input: value` lines; docs/economics.md lists the inputs")
    return found


def _models(value: Any) -> Sequence[str]:
    models = [value] if isinstance(value, str) else value
    if not isinstance(models, list | tuple) or not models:
        raise ModelError("hosted must be a hosted model's id or a list of them")
    return [str(model) for model in models]


def _volume(value: Any) -> Decimal:
    volume = _number("volume", value)
    if volume <= 0:
        raise ModelError("volume must be above zero queries a month")
    return volume


def _choices(values: Mapping[str, Any]) -> Choices:
    return Choices(**{key: _choice(key, value) for key, value in values.items()})


def _choice(key: str, value: Any) -> Any:
    if key == "billing":
        return value  # Choices knows which there are
    if key == "hourly_load":
        items = value.split(",") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise ModelError("hourly_load must be a list of numbers")
        return tuple(_number(key, item) for item in items)
    if key == "follow_load":
        if value not in (True, False, "true", "false"):
            raise ModelError("follow_load must be true or false")
        return value in (True, "true")
    number = _number(key, value)
    if number != int(number):
        raise ModelError(f"{key} must be a whole number")
    return int(number)


def _figure(key: str, value: Any, name: str) -> Figure:
    if not isinstance(value, Mapping):
        low, middle, high = _range(key, value)
        return Figure(middle, "assumed", name, low, high)
    if unknown := sorted(map(str, set(value) - {"value", "kind", "source", "low", "high", "as_of"})):
        raise ModelError(f"{name}: {key} has an unknown key {unknown[0]!r}; it may have value, kind, source, low, high")
    if "value" not in value or value.get("kind", "assumed") not in KINDS:
        raise ModelError(f"{name}: {key} needs a value, and a kind of {', '.join(KINDS)}")
    if value.get("kind", "assumed") != "assumed" and "source" not in value:
        raise ModelError(f"{name}: {key} is {value['kind']}: its source must say by whom or what")
    low, high = (_number(key, value[end]) if end in value else None for end in ("low", "high"))
    seen = str(value["as_of"]) if "as_of" in value else None
    source = str(value.get("source", name))
    return Figure(_number(key, value["value"]), value.get("kind", "assumed"), source, low, high, seen)


def _range(key: str, value: Any) -> tuple[Decimal | None, Decimal, Decimal | None]:
    parts = value.split(":") if isinstance(value, str) else [value]
    if len(parts) == 1:
        return None, _number(key, parts[0]), None
    if len(parts) != 3:
        raise ModelError(f"{key} must be a value or low:value:high, not {value!r}")
    low, middle, high = (_number(key, part) for part in parts)
    return low, middle, high


def _number(key: str, value: Any) -> Decimal:
    """Numbers as people write them: 1e6, 10M, 250k and 1_000_000 too."""
    text = str(value).strip().replace("_", "")
    scale = {"k": 1_000, "M": 1_000_000}.get(text[-1:], 1)
    try:
        number = Decimal(text[:-1] if scale > 1 else text) * scale
    except InvalidOperation:
        raise ModelError(f"{key} must be a number, not {value!r}") from None
    if isinstance(value, bool) or not number.is_finite():
        raise ModelError(f"{key} must be a number, not {value!r}")
    if number and not _LEAST <= abs(number) <= _MOST:
        raise ModelError(f"{key} is {value}; a number other than 0 lies between {_LEAST} and {_MOST}")
    return number
