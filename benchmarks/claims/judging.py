"""From a claim to its verdict. The only place that decides; what it decides on is data.

A claim covers cases (hosted models, billing hours, results files) and, often, a range of one input. True in all of
that: it holds. In none of it: it fails. In part of it: it holds only if, and the part is the condition. A measurement
with an interval counts as true or false only where its whole interval is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from itertools import product
from typing import Literal

from benchmarks.claims.claim import OUTCOMES, Book, Claim, Outcome, Test
from benchmarks.claims.contradictions import Conflict, conflicts
from benchmarks.claims.expression import (
    Call,
    Expression,
    Measured,
    Number,
    Range,
    folded,
    formulas_of,
    leaves,
    range_of,
    replaced,
    value_of,
)
from benchmarks.claims.measurements import Results
from benchmarks.claims.search import Span, spans
from benchmarks.errors import BenchmarkError, ClaimError
from benchmarks.prices.validity import STALE_AFTER_DAYS

Truth = Literal["true", "false", "partly", "open"]
Evidence = Literal["measured", "modelled", "calculated", "quoted"]


@dataclass(frozen=True, slots=True)
class CaseFinding:
    """One case: the formula with its inputs, what it gives, and the truth of what was expected.

    `values`: at the ends of what is searched, or of the measured intervals. `open`: the interval holds the threshold.
    `spans`: the true parts of the searched range.
    """

    label: str
    call: Call
    truth: Truth
    values: tuple[Decimal, ...]
    searched: tuple[str, Range] | None = None
    spans: tuple[Span, ...] = ()


@dataclass(frozen=True, slots=True)
class TestFinding:
    """One part of a claim. `inverted`: nobody has measured this, and the range says what would have to be."""

    test: Test
    outcome: Outcome
    cases: tuple[CaseFinding, ...]
    missing: tuple[Measured, ...] = ()
    inverted: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a claim. `also`: computed for the reader, without a say in the outcome."""

    claim: Claim
    outcome: Outcome
    evidence: Evidence | None
    findings: tuple[TestFinding, ...] = ()
    also: tuple[TestFinding, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def inverted(self) -> bool:
        """Judged by what would have to be measured."""
        return any(finding.inverted for finding in self.findings)

    def stale(self, today: date) -> tuple[Number, ...]:
        """The quoted figures behind it that were seen too long ago to be relied on."""
        calls = [case.call for finding in self.findings for case in finding.cases]
        numbers = {leaf.source: leaf for call in calls for _, leaf in leaves(call) if isinstance(leaf, Number)}
        return tuple(leaf for leaf in numbers.values() if is_stale(leaf, today))

    @property
    def why_inverted(self) -> str:
        """What is not measured, in a few words; empty when nothing had to be inverted."""
        cases = [case for finding in self.findings if finding.inverted for case in finding.cases if case.searched]
        return next((case.searched[1].why.partition(";")[0] for case in cases if case.searched), "")

    @property
    def missing(self) -> tuple[Measured, ...]:
        """What nobody has measured."""
        return tuple(leaf for finding in self.findings for leaf in finding.missing)


def verdicts(book: Book, results: Results | None = None) -> Mapping[str, Verdict]:
    """Of every claim."""
    results = results or Results()
    return {claim.id: judge(claim, results, conflicts(book, claim.id)) for claim in book.claims.values()}


def judge(claim: Claim, results: Results, against: Sequence[Conflict] = ()) -> Verdict:
    """Of one claim, given what contradicts it. ClaimError when its inputs are impossible (a price of zero)."""
    try:
        findings = tuple(find(test, results) for test in claim.tests)
        also = tuple(find(test, results) for test in claim.also)
    except (ArithmeticError, BenchmarkError) as error:
        problem = error if isinstance(error, BenchmarkError) else f"arithmetic fails ({type(error).__name__})"
        raise ClaimError(f"claim {claim.id} cannot be computed from its inputs: {problem}") from error
    if claim.kind == "consistency":
        # Agreement is no evidence; a contradiction at least says what else would have to be wrong.
        outcome: Outcome = "holds_only_if" if against else "not_testable"
    else:
        outcome = min((finding.outcome for finding in findings), key=OUTCOMES.index, default="not_testable")
    return Verdict(claim, outcome, _evidence(findings), findings, also, tuple(against))


def find(test: Test, results: Results) -> TestFinding:
    """One part of a claim, in all its cases."""
    cases: list[CaseFinding] = []
    missing: list[Measured] = []
    inverted = False
    for label, call in test.cases.items():
        known, lacking = results.known(call)
        missing += lacking
        inverted = inverted or (
            any(isinstance(leaf, Measured) for _, leaf in leaves(call))
            and any(range_of(found) and range_of(call) is None for found in known.values())
        )
        cases += (_case(", ".join(filter(None, (label, name))), found, test) for name, found in known.items())
    return TestFinding(test, _outcome(cases, missing), tuple(cases), tuple(dict.fromkeys(missing)), inverted)


def _outcome(cases: Sequence[CaseFinding], missing: Sequence[Measured]) -> Outcome:
    truths = {case.truth for case in cases}
    if missing:
        return "not_yet_measured"
    if truths == {"true"}:
        return "holds"
    return "fails" if truths == {"false"} else "holds_only_if"


def _case(label: str, call: Call, test: Test) -> CaseFinding:
    searched = range_of(call)
    if searched is not None:
        _, span = searched
        function = folded(call)
        true = spans(lambda at: value_of(function, at), span, test.expect)
        shown = tuple(value_of(call, at) for at in (span.low, span.at, span.high) if at is not None)
        return CaseFinding(label, call, _truth_of(true), shown, searched, true)
    values = tuple(dict.fromkeys(value_of(bound) for bound in _corners(call)))
    met = {test.expect.met_by(value) for value in values}
    return CaseFinding(label, call, "open" if len(met) > 1 else "true" if met == {True} else "false", values)


def _truth_of(true: tuple[Span, ...]) -> Truth:
    if not true:
        return "false"
    return "true" if true == (Span(None, None),) else "partly"


def _corners(call: Call) -> list[Call]:
    """The call at its measured values first, then at every combination of the ends of their intervals."""
    measured = [leaf for _, leaf in leaves(call) if isinstance(leaf, Number) and leaf.low is not None]
    corners = [call]
    for chosen in product(*((leaf.low, leaf.high) for leaf in measured)) if measured else ():
        ends = {
            leaf: Number(end, leaf.unit, leaf.origin, leaf.source)
            for leaf, end in zip(measured, chosen, strict=True)
            if end is not None
        }
        corners.append(_with(call, ends))
    return corners


def _with(call: Call, ends: Mapping[Number, Expression]) -> Call:
    inputs: dict[str, Expression] = {}
    for name, given in call.inputs.items():
        if isinstance(given, Number):
            inputs[name] = ends.get(given, given)
        else:
            inputs[name] = _with(given, ends) if isinstance(given, Call) else replaced(given, {})
    return Call(call.formula, inputs, call.unit)


def is_stale(leaf: Number, today: date) -> bool:
    """A price seen more than 90 days ago."""
    return leaf.as_of is not None and (today - date.fromisoformat(leaf.as_of)).days > STALE_AFTER_DAYS


def _evidence(findings: Sequence[TestFinding]) -> Evidence | None:
    """The weakest name that fits: a verdict that leans on one measurement is measured; on a model, modelled."""
    calls = [case.call for finding in findings for case in finding.cases]
    if not calls:
        return None
    origins = {leaf.origin for call in calls for _, leaf in leaves(call) if isinstance(leaf, Number)}
    if "measured" in origins:
        return "measured"
    if any(formula.modelled for call in calls for formula in formulas_of(call)):
        return "modelled"
    return "quoted" if "quoted" in origins else "calculated"
