"""What a project needs, as its owner can say it: ten inputs, each given or assumed, and every one says which."""

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, get_args

from benchmarks.economics.figures import KINDS, Kind
from benchmarks.errors import AdviceError

Need = Literal["knowledge", "behaviour", "both"]
Value = Decimal | bool | Need
_WORDS = {
    "never": Decimal(0),
    "yearly": 1 / Decimal(12),
    "quarterly": 1 / Decimal(3),
    "monthly": Decimal(1),
    "weekly": 52 / Decimal(12),
    "daily": 365 / Decimal(12),
}
_SAID = {"yes": True, "true": True, "no": False, "false": False}
_SCALES = {"k": 1_000, "M": 1_000_000}
# 300,000 as this tool prints it; 0,5 stays a mistake.
_GROUPED = re.compile(r"[1-9]\d{0,2}(,\d{3})+")


@dataclass(frozen=True, slots=True)
class Input:
    """One input: what to ask, what is assumed without an answer and whose assumption that is.

    `low` and `high` bound numbers and the search for what would change the answer. `grain` is the smallest amount that
    matters: changes are measured in doublings of value + grain.
    """

    name: str
    question: str
    default: Value
    why: str
    low: Decimal = Decimal(0)
    high: Decimal = Decimal(0)
    grain: Decimal = Decimal(1)

    @property
    def number(self) -> bool:
        """Whether it is a quantity, not a choice."""
        return isinstance(self.default, Decimal)


def _input(name: str, question: str, default: str, why: str, span: tuple[str, str, str]) -> Input:
    return Input(name, question, Decimal(default), why, *map(Decimal, span))


INPUTS: Mapping[str, Input] = {
    held.name: held
    for held in (
        Input("need", "What is missing: knowledge, behaviour or both?", "knowledge", "what most projects ask for"),
        _input("updates_per_month", "How often does the knowledge change: weekly, monthly, never, or N a month?",
               "1", "the middle of the documents' thresholds", ("0", "1000", "0.05")),
        Input("citations", "Must answers name their sources?", False, "not asked for"),
        Input("per_user", "May different users see different documents?", False, "not asked for"),
        _input("examples", "How many good examples of question and answer are there?", "0", "none are known of",
               ("0", "1e6", "50")),
        _input("latency_ms", "Within how many milliseconds must the first token come?", "1000",
               "a second, which every design here is assumed to keep", ("1", "1e6", "10")),
        _input("budget_usd_per_month", "Budget in USD a month, set-up spread over 24 months?", "5000",
               "document B's line, read as a month's", ("0", "1e9", "10")),
        _input("volume", "How many queries a month?", "300000", "document C's lower threshold", ("1", "1e9", "100")),
        _input("growth_per_month", "By which share does the volume grow each month?", "0", "a steady volume",
               ("-0.09", "0.5", "0.1")),
        _input("people", "How many full-time people can look after it?", "0.5", "half an engineer",
               ("0", "1000", "0.01")),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """How an input is known. `given` is false when nobody said it and the default stands in."""

    kind: Kind
    source: str
    given: bool


@dataclass(frozen=True, slots=True)
class Needs:
    """All inputs. `latency_ms` is the objective for the first token; `people` full-time; `growth_per_month` a share."""

    need: Need
    updates_per_month: Decimal
    citations: bool
    per_user: bool
    examples: Decimal
    latency_ms: Decimal
    budget_usd_per_month: Decimal
    volume: Decimal
    growth_per_month: Decimal
    people: Decimal

    def value(self, name: str) -> Value:
        """One input by name."""
        found: Value = getattr(self, name)
        return found

    def but(self, name: str, value: Value) -> "Needs":
        """The same with one input changed."""
        return replace(self, **{name: value})  # type: ignore[arg-type]  # every name's type is checked where it is read

    @property
    def knowledge(self) -> bool:
        """Whether knowledge is wanted."""
        return self.need != "behaviour"

    @property
    def behaviour(self) -> bool:
        """Whether behaviour is wanted."""
        return self.need != "knowledge"


def read_needs(*sources: tuple[str, Mapping[str, Any]]) -> tuple[Needs, Mapping[str, Origin]]:
    """From named sources, later ones over earlier ones, defaults for the rest. AdviceError names the input."""
    values: dict[str, Value] = {name: held.default for name, held in INPUTS.items()}
    origins = {name: Origin("assumed", f"default: {held.why}", False) for name, held in INPUTS.items()}
    for source, given in sources:
        for name, said in given.items():
            values[name], origins[name] = _read(name, said, source)
    return Needs(**values), origins  # type: ignore[arg-type]  # parsed by the same names


def split(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What is an input of the adviser, and the rest, which is the economic model's."""
    mine = {name: said for name, said in given.items() if name in INPUTS}
    return mine, {name: said for name, said in given.items() if name not in INPUTS}


def _read(name: str, said: Any, source: str) -> tuple[Value, Origin]:
    if not isinstance(said, Mapping):
        return parse(name, said), Origin("assumed", source, True)
    kind = said.get("kind", "assumed")
    if "value" not in said or kind not in KINDS or set(said) - {"value", "kind", "source"}:
        raise AdviceError(f"{source}: {name} takes a value, a kind of {', '.join(KINDS)}, and a source")
    if kind != "assumed" and "source" not in said:
        raise AdviceError(f"{source}: {name} is {kind}: its source must say by whom or what")
    return parse(name, said["value"]), Origin(kind, str(said.get("source", source)), True)


def parse(name: str, said: Any) -> Value:
    """A value as people write it: weekly, 10M, yes. AdviceError says what is expected."""
    held, text = INPUTS[name], str(said).strip()
    if name == "need":
        return _need(text)
    if not held.number:
        if text.lower() not in _SAID:
            raise AdviceError(f"{name} must be yes or no, not {said!r}")
        return _SAID[text.lower()]
    if name == "updates_per_month" and text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _GROUPED.fullmatch(text):
        text = text.replace(",", "")
    scale = _SCALES.get(text[-1:], 1)
    try:
        number = Decimal(text[:-1] if scale > 1 else text) * scale
    except InvalidOperation:
        words = f" or one of {', '.join(_WORDS)}" if name == "updates_per_month" else ""
        raise AdviceError(f"{name} must be a number{words}, not {said!r}") from None
    if not number.is_finite() or not held.low <= number <= held.high:
        raise AdviceError(f"{name} is {said}; it lies between {held.low:f} and {held.high:f}")
    return number


def _need(text: str) -> Need:
    wanted = text.lower().replace("behavior", "behaviour")
    for need in get_args(Need):
        if wanted == need:
            found: Need = need
            return found
    near = difflib.get_close_matches(wanted, get_args(Need), n=1, cutoff=0)[0]
    raise AdviceError(f"need must be knowledge, behaviour or both, not {text!r}; did you mean {near!r}?")
