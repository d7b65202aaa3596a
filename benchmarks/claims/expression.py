"""Formulas as trees: where each input comes from, and what the tree is worth once everything is known.

A leaf is a number that somebody stated, a price, a measurement, or a range to be searched. At most one range is in a
tree; the verdict says in which part of it the claim is true.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal

from benchmarks.claims.formulas import Formula

Origin = Literal["document", "assumed", "quoted", "measured"]


@dataclass(frozen=True, slots=True)
class Number:
    """A known value: a document's, our assumption, a price list's of a day, or measured on a device."""

    value: Decimal
    unit: str
    origin: Origin
    source: str
    as_of: str | None = None
    low: Decimal | None = None
    high: Decimal | None = None
    device: str = ""


@dataclass(frozen=True, slots=True)
class Range:
    """Every value that the claim could mean; `at` is the one shown. Searched on a log scale unless `linear`."""

    low: Decimal
    high: Decimal
    unit: str
    why: str
    at: Decimal | None = None
    linear: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure of results files: a pattern of paths from the repository's root, and where in each file it is.

    `*` in the place stands for every entry there, one case each. `until` is searched as long as no file has it, which
    gives what would have to be measured for the claim to be true.
    """

    files: str
    place: str
    unit: str
    until: Range | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A formula and its inputs by name."""

    formula: Formula
    inputs: Mapping[str, "Expression"]
    unit: str


Expression = Number | Range | Measured | Call


def value_of(expression: Expression, searched: Decimal | None = None) -> Decimal:
    """The tree's value, with `searched` in the place of its range. Measured leaves must have been replaced before."""
    if isinstance(expression, Number):
        return expression.value
    if isinstance(expression, Call):
        return expression.formula.function(
            **{name: value_of(given, searched) for name, given in expression.inputs.items()}
        )
    if isinstance(expression, Range) and searched is not None:
        return searched
    raise ValueError("an expression with an unknown in it has no value")


def folded(call: Call) -> Call:
    """The same function of its range, with everything that does not depend on it computed once."""
    inputs: dict[str, Expression] = {}
    for name, given in call.inputs.items():
        if isinstance(given, Call):
            fixed = range_of(given) is None
            inputs[name] = Number(value_of(given), given.unit, "assumed", "") if fixed else folded(given)
        else:
            inputs[name] = given
    return replace(call, inputs=inputs)


def leaves(expression: Expression, name: str = "") -> Iterator[tuple[str, Number | Range | Measured]]:
    """Every leaf with the name of the input that it is."""
    if isinstance(expression, Call):
        for inner, given in expression.inputs.items():
            yield from leaves(given, inner)
    else:
        yield name, expression


def formulas_of(expression: Expression) -> Iterator[Formula]:
    """Every formula of the tree."""
    if isinstance(expression, Call):
        yield expression.formula
        for given in expression.inputs.values():
            yield from formulas_of(given)


def replaced(expression: Expression, known: Mapping[Measured, Expression]) -> Expression:
    """The tree with measured leaves replaced by what is `known` of them."""
    if isinstance(expression, Measured):
        return known.get(expression, expression)
    if isinstance(expression, Call):
        inputs = {name: replaced(given, known) for name, given in expression.inputs.items()}
        return Call(expression.formula, inputs, expression.unit)
    return expression


def range_of(expression: Expression) -> tuple[str, Range] | None:
    """The input that is searched, if any."""
    return next(((name, leaf) for name, leaf in leaves(expression) if isinstance(leaf, Range)), None)
