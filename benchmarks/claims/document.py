"""Verdicts as JSON: exact numbers as texts, everything that a reader needs to check them."""

from datetime import date
from decimal import Decimal
from typing import Any

from benchmarks.claims.expression import Call, Measured, Number, Range
from benchmarks.claims.judging import CaseFinding, TestFinding, Verdict
from benchmarks.claims.wording import conflict_text, reason


def as_document(verdict: Verdict, today: date) -> dict[str, Any]:
    """One claim with its verdict; prices that are old on that day are named."""
    claim = verdict.claim
    return {
        "claim": claim.id,
        "document": claim.document,
        "says": claim.says,
        "lines": claim.lines,
        "test": claim.kind,
        "verdict": verdict.outcome,
        "evidence": verdict.evidence,
        "by_inversion": verdict.inverted,
        "condition": reason(verdict) if verdict.outcome == "holds_only_if" else None,
        "why": reason(verdict),
        "flips_on": _flips(verdict),
        "note": claim.note or None,
        "tests": [_finding(finding) for finding in verdict.findings],
        "also": [_finding(finding) for finding in verdict.also],
        "missing": [{"results": leaf.files, "at": leaf.place, "unit": leaf.unit} for leaf in verdict.missing],
        "experiments": list(claim.experiments),
        "stale_prices": [{"source": leaf.source, "as_of": leaf.as_of} for leaf in verdict.stale(today)],
        "contradicted": [
            {
                "question": conflict.group.question,
                "claims": list(conflict.other.claims),
                "text": conflict_text(conflict),
            }
            for conflict in verdict.conflicts
        ],
    }


def _flips(verdict: Verdict) -> list[dict[str, Any]]:
    """The values of the searched inputs at which the claim becomes true or false."""
    return [
        {"case": case.label or None, "input": case.searched[0], "at": [_text(end) for end in ends]}
        for finding in verdict.findings
        for case in finding.cases
        if case.searched and (ends := [end for span in case.spans for end in (span.low, span.high) if end is not None])
    ]


def _finding(finding: TestFinding) -> dict[str, Any]:
    expect = finding.test.expect
    return {
        "about": finding.test.about or None,
        "outcome": finding.outcome,
        "formula": next(iter(finding.test.cases.values())).formula.name,
        "unit": finding.test.unit,
        "claimed": {"low": _text(expect.low), "high": _text(expect.high), "strict": expect.strict},
        "cases": [_case(case) for case in finding.cases],
    }


def _case(case: CaseFinding) -> dict[str, Any]:
    return {
        "case": case.label or None,
        "truth": case.truth,
        "values": [_text(value) for value in case.values],
        "searched": case.searched and case.searched[0],
        "true_where": [{"low": _text(span.low), "high": _text(span.high)} for span in case.spans],
        "inputs": _inputs(case.call),
    }


def _inputs(call: Call) -> dict[str, Any]:
    return {name: _input(given) for name, given in call.inputs.items()}


def _input(given: Call | Number | Range | Measured) -> dict[str, Any]:
    if isinstance(given, Call):
        return {"formula": given.formula.name, "unit": given.unit, "inputs": _inputs(given)}
    if isinstance(given, Range):
        return {"from": _text(given.low), "to": _text(given.high), "unit": given.unit, "why": given.why}
    if isinstance(given, Measured):
        return {"results": given.files, "at": given.place, "unit": given.unit}
    return {
        "value": _text(given.value),
        "low": _text(given.low),
        "high": _text(given.high),
        "unit": given.unit,
        "origin": given.origin,
        "source": given.source,
        "as_of": given.as_of,
        "device": given.device or None,
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value.normalize(), "f") if value.is_finite() else "infinite"
