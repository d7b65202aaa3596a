"""A claim as data: who says what, how it is tested, and what would answer it. Everything here is read from YAML."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from benchmarks.claims.expression import Call

# How a claim is tested. A price claim is a calculation whose inputs are published prices; the measured ones say on what
# hardware; consistency means that only the other documents can be asked.
Kind = Literal["calculation", "price", "measured_cpu", "measured_gpu", "consistency", "not_testable"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FAST: tuple[Kind, ...] = ("calculation", "price")

# The order is that of a conjunction: a claim is as false as its falsest part.
Outcome = Literal["fails", "holds_only_if", "not_yet_measured", "holds", "not_testable"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What the claim says the formula gives. Bounds are in the formula's unit; None: no bound. `strict`: not at them.

    `within`: the bounds are a stated figure with this tolerance, as a share.
    """

    low: Decimal | None
    high: Decimal | None
    strict: bool = False
    said: str = ""
    within: Decimal | None = None

    def met_by(self, value: Decimal) -> bool:
        """Whether a value is as claimed."""
        if self.strict:
            return (self.low is None or value > self.low) and (self.high is None or value < self.high)
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    @property
    def bounds(self) -> tuple[Decimal, ...]:
        """Where the answer changes."""
        return tuple(bound for bound in (self.low, self.high) if bound is not None)


@dataclass(frozen=True, slots=True)
class Test:
    """One formula in every case that the claim covers, and what it should give.

    A single case has no name. `about` says which part of the claim it is.
    """

    cases: Mapping[str, Call]
    unit: str
    expect: Expectation
    about: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """One claim. `lines` are those of the document's text; `experiments` would answer what is not measured yet."""

    id: str
    says: str
    lines: str
    kind: Kind
    tests: tuple[Test, ...] = ()
    also: tuple[Test, ...] = ()
    experiments: tuple[str, ...] = ()
    untestable: str = ""
    note: str = ""

    @property
    def document(self) -> str:
        """The document's letter."""
        return self.id[0]


@dataclass(frozen=True, slots=True)
class Document:
    """A source. `claims`: how many of its claims are judged."""

    letter: str
    title: str
    file: str
    claims: int


@dataclass(frozen=True, slots=True)
class Experiment:
    """What must be measured, on which hardware, and where its results belong. `command` is empty until there is one."""

    id: str
    what: str
    hardware: Literal["cpu", "gpu", "a10g"]
    results: str
    command: str = ""


@dataclass(frozen=True, slots=True)
class Side:
    """What some claims say about a quantity: an interval in the group's unit, or a stance in words."""

    claims: tuple[str, ...]
    stance: str = ""
    low: Decimal | None = None
    high: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A question that several claims answer."""

    id: str
    question: str
    unit: str
    sides: tuple[Side, ...]


@dataclass(frozen=True, slots=True)
class Book:
    """Everything that was read."""

    documents: Mapping[str, Document]
    experiments: Mapping[str, Experiment]
    claims: Mapping[str, Claim]
    groups: tuple[Group, ...]
