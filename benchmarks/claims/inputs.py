"""Inputs as YAML states them, turned into expressions whose units fit.

{is: 30, unit: queries/min}                  what the document says (`document: D` if it is another one)
{is: 2, unit: "1", assumed: default}         what we assume, and why
{from: 1000, to: 1e7, unit: x, why: scope}   everything the claim could mean
{price: gpt-4o, field: input}                a row of benchmarks/prices/prices.yaml
{quote: a10g-ap-east-1}                      a row of benchmarks/prices/quotes.yaml
{default: output_tokens, unit: tokens}       an assumption of the economic model
{files: pattern, at: place, unit: share}     a measurement
{formula: name, inputs: {...}}               a formula's result
name                                         a figure of figures.yaml
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from benchmarks.claims.expression import Call, Expression, Measured, Number, Range
from benchmarks.claims.formulas import FORMULAS
from benchmarks.economics.defaults import ASSUMED
from benchmarks.errors import ClaimError
from benchmarks.prices import ApiPrice, PriceBook
from benchmarks.prices.quotes import Quote

_API_FIELDS: Mapping[str, Callable[[ApiPrice], Decimal]] = {
    "input": lambda row: row.input_usd_per_mtok,
    "cached": lambda row: row.cached_input_usd_per_mtok,
    "output": lambda row: row.output_usd_per_mtok,
}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads inputs. `figures` are named expressions; `document` is who stated a number without a source of its own."""

    prices: PriceBook
    quotes: Mapping[str, Quote]
    figures: dict[str, Expression] = field(default_factory=dict)

    def read(self, given: Any, document: str) -> Expression:
        """One input. ClaimError says what is wrong with it."""
        if isinstance(given, str):
            if given not in self.figures:
                raise ClaimError(f"{given!r} is no figure of figures.yaml")
            return self.figures[given]
        if not isinstance(given, dict):
            raise ClaimError(f"{given!r} is no input; a number is written {{is: 30, unit: queries/min}}")
        for key, read in _FORMS.items():
            if key in given:
                return read(self, given, document)
        raise ClaimError(f"{given} names none of {', '.join(_FORMS)}")

    def _number(self, given: Mapping[str, Any], document: str) -> Number:
        _only(given, "is", "unit", "assumed", "quoted", "document")
        if "assumed" in given:
            return Number(number(given["is"]), given["unit"], "assumed", given["assumed"])
        if "quoted" in given:
            return Number(number(given["is"]), given["unit"], "quoted", given["quoted"])
        return Number(number(given["is"]), given["unit"], "document", given.get("document", document))

    def _range(self, given: Mapping[str, Any], _: str) -> Range:
        _only(given, "from", "to", "unit", "why", "at", "linear")
        at = None if "at" not in given else number(given["at"])
        low, high = number(given["from"]), number(given["to"])
        linear = bool(given.get("linear", False))
        if not low < high or (low <= 0 and not linear) or not given["why"]:
            raise ClaimError(
                f"{given}: from < to must hold, both above zero unless linear, and why says what they cover"
            )
        return Range(low, high, given["unit"], given["why"], at, linear)

    def _price(self, given: Mapping[str, Any], _: str) -> Number:
        _only(given, "price", "field")
        name = given["price"]
        if given["field"] == "hour":
            machine = self.prices.gpu(name)
            return Number(machine.usd_per_hour, "USD/h", "quoted", f"{name}: {machine.source}", machine.as_of)
        if given["field"] == "usd":
            row = self.prices.unit(name)
            if not row.per.startswith("mtok"):
                raise ClaimError(f"the price {name} is per {row.per}; a claim can use prices per million tokens")
            return Number(row.usd, "USD/Mtok", "quoted", f"{name}: {row.source}", row.as_of)
        api = self.prices.api(name)
        value = _API_FIELDS[given["field"]](api)
        return Number(value, "USD/Mtok", "quoted", f"{name} {given['field']}: {api.source}", api.as_of)

    def _quote(self, given: Mapping[str, Any], _: str) -> Number:
        _only(given, "quote")
        quote = self.quotes[given["quote"]]
        return Number(quote.value, quote.unit, "quoted", f"{quote.id}: {quote.source}", quote.as_of)

    def _default(self, given: Mapping[str, Any], _: str) -> Number:
        _only(given, "default", "unit")
        figure = ASSUMED[given["default"]]
        return Number(figure.value, given["unit"], "assumed", figure.source)

    def _measured(self, given: Mapping[str, Any], document: str) -> Measured:
        _only(given, "files", "at", "unit", "until")
        until = given.get("until")
        return Measured(given["files"], given["at"], given["unit"], until and self._range(until, document))

    def _call(self, given: Mapping[str, Any], document: str) -> Call:
        _only(given, "formula", "inputs")
        return self.call(given["formula"], given["inputs"], document)

    def call(self, name: str, inputs: Mapping[str, Any], document: str) -> Call:
        """A formula with its inputs. ClaimError when an input is missing, unknown or in another unit."""
        if name not in FORMULAS:
            raise ClaimError(f"{name} is no formula; there are {', '.join(FORMULAS)}")
        formula = FORMULAS[name]
        read = {key: self.read(given, document) for key, given in inputs.items()}
        return checked(Call(formula, read, formula.unit))


def checked(call: Call) -> Call:
    """The call with its unit settled. ClaimError when its inputs do not fit the formula."""
    formula = call.formula
    if call.inputs.keys() != formula.parameters.keys():
        different = ", ".join(sorted(call.inputs.keys() ^ formula.parameters.keys()))
        raise ClaimError(f"{formula.name} takes {', '.join(formula.parameters)}; look at {different}")
    free = [given.unit for name, given in call.inputs.items() if formula.parameters[name] == "any"]
    if len(set(free)) > 1:
        raise ClaimError(f"{formula.name} needs inputs of one unit, not {' and '.join(free)}")
    for name, given in call.inputs.items():
        if formula.parameters[name] not in ("any", given.unit):
            raise ClaimError(f"{formula.name}: {name} is in {formula.parameters[name]}, not in {given.unit}")
    return Call(formula, call.inputs, free[0] if formula.unit == "any" else formula.unit)


def number(given: Any) -> Decimal:
    """A number of a data file, exactly as written."""
    try:
        found = Decimal(str(given))
    except InvalidOperation as error:
        raise ClaimError(f"{given!r} is no number") from error
    if not found.is_finite():
        raise ClaimError(f"{given!r} is no finite number")
    return found


def _only(given: Mapping[str, Any], *allowed: str) -> None:
    if unknown := sorted(given.keys() - set(allowed)):
        raise ClaimError(f"{given}: unknown key {unknown[0]!r}; it may have {', '.join(allowed)}")


_FORMS: Mapping[str, Callable[[Reader, Mapping[str, Any], str], Expression]] = {
    "is": Reader._number,
    "from": Reader._range,
    "price": Reader._price,
    "quote": Reader._quote,
    "default": Reader._default,
    "files": Reader._measured,
    "formula": Reader._call,
}
