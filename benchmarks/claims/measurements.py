"""Committed results, read by pattern and place. A figure that is not there is missing, never guessed."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.claims.expression import Call, Expression, Measured, Number, leaves, replaced
from benchmarks.errors import BenchmarkError, ClaimError
from benchmarks.experiments.document import document
from benchmarks.prices import load_prices

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Results:
    """The results files under a folder: the repository's root, or a copy of it."""

    root: Path = ROOT

    def known(self, call: Call) -> tuple[dict[str, Call], tuple[Measured, ...]]:
        """The call with its measurements filled in, once per file and per entry that `*` stands for.

        Without results: measurements that are searched until then become their range; the others are returned as
        missing. A file counts only if it has every figure that the call needs from it.
        """
        wanted = tuple(dict.fromkeys(leaf for _, leaf in leaves(call) if isinstance(leaf, Measured)))
        if not wanted:
            return {"": call}, ()
        found: dict[str, Call] = {}
        for path in sorted(self.root.glob(wanted[0].files)):
            for label, numbers in _readings(path, path.relative_to(self.root).as_posix(), wanted):
                found[label] = _filled(call, numbers)
        if found:
            return found, ()
        searched: dict[Measured, Expression] = {leaf: leaf.until for leaf in wanted if leaf.until is not None}
        missing = tuple(leaf for leaf in wanted if leaf.until is None)
        return ({} if missing else {"": _filled(call, searched)}), missing


def _filled(call: Call, known: Mapping[Measured, Expression]) -> Call:
    inputs = {name: replaced(given, known) for name, given in call.inputs.items()}
    return Call(call.formula, inputs, call.unit)


def _readings(path: Path, shown: str, wanted: tuple[Measured, ...]) -> Iterator[tuple[str, Mapping[Measured, Number]]]:
    content = _content(path)
    device = _device(content)
    for entry in _entries(content, wanted[0].place):
        numbers = {}
        for leaf in wanted:
            place = leaf.place.replace("*", entry)
            if (found := _at(content, place)) is not None:
                numbers[leaf] = _number(found, leaf.unit, f"{shown}: {place}", device)
        if len(numbers) == len(wanted):
            yield f"{path.name.partition('.')[0]} {entry}".strip(), numbers


@cache
def _content(path: Path) -> Any:
    if ".jsonl" in path.suffixes:
        # Raw timings of load runs: what they say is derived, here as in the report.
        try:
            return document(path, load_prices())
        except BenchmarkError as error:
            raise ClaimError(f"cannot use the results file {path.name}: {error}") from error
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    except (OSError, ValueError) as error:
        raise ClaimError(f"cannot read the results file {path.name}: {error}; measure again or remove it") from error


def _entries(content: Any, place: str) -> list[str]:
    """What `*` stands for: keys, or the values of a list's `name=*`."""
    if "*" not in place:
        return [""]
    before, _, _ = place.partition("*")
    folder, _, key = before.rpartition("/")
    held = _at(content, folder) if folder else content
    if isinstance(held, list):
        name = key.removesuffix("=")
        return [str(item[name]) for item in held if isinstance(item, dict) and name in item]
    return [str(key) for key in held] if isinstance(held, dict) else []


def _at(content: Any, place: str) -> Any:
    """What is at a path of keys; `name=value` chooses from a list. None if it is not there."""
    found = content
    for step in place.split("/"):
        key, sign, wanted = step.partition("=")
        if isinstance(found, list) and sign:
            found = next((item for item in found if isinstance(item, dict) and str(item.get(key)) == wanted), None)
        elif isinstance(found, dict):
            found = found.get(step)
        else:
            return None
    return found


def _number(found: Any, unit: str, source: str, device: str) -> Number:
    """A bare number, or an object with value, low and high."""
    if not isinstance(found, dict):
        return Number(Decimal(found), unit, "measured", source, device=device)
    low, high = (Decimal(found[key]) if found.get(key) is not None else None for key in ("low", "high"))
    return Number(Decimal(found["value"]), unit, "measured", source, low=low, high=high, device=device)


def _device(content: Any) -> str:
    """On what, so that nobody takes a CPU's figure for a GPU's: results that name no accelerator are a CPU's."""
    origin = content.get("origin", {}) if isinstance(content, dict) else {}
    if device := origin.get("device") or origin.get("gpu"):
        return str(device)
    if gpus := origin.get("gpus"):
        return str(gpus[0]["name"])
    return f"CPU ({origin['cpu_model']}, {origin['cores']} cores)" if "cpu_model" in origin else "CPU"
