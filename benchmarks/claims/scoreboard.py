"""Verdicts on the terminal: a table of all, or everything about one."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.claims.claim import OUTCOMES, Book, Outcome
from benchmarks.claims.contradictions import all_conflicts
from benchmarks.claims.judging import TestFinding, Verdict
from benchmarks.claims.wording import (
    KIND_NAMES,
    OUTCOME_NAMES,
    case_values,
    conflict_text,
    conflict_verdicts,
    expected,
    inputs_of,
    reason,
    where,
)
from benchmarks.prices.validity import STALE_AFTER_DAYS

_LONGEST = 240
_STYLES: dict[Outcome, str] = {"holds": "green", "fails": "red", "holds_only_if": "yellow"}


def print_scoreboard(verdicts: Sequence[Verdict], console: Console) -> None:
    """One line a claim, and how many there are of each verdict."""
    table = Table("", "claim", "test", "verdict", "why", box=None, pad_edge=False)
    for verdict in verdicts:
        name = Text(OUTCOME_NAMES[verdict.outcome], _STYLES.get(verdict.outcome, ""))
        claim = verdict.claim
        table.add_row(claim.id, Text(claim.says), KIND_NAMES[claim.kind], name, Text(_short(verdict)))
    console.print(table)
    counts = Counter(verdict.outcome for verdict in verdicts)
    found = ", ".join(f"{counts[outcome]} {OUTCOME_NAMES[outcome]}" for outcome in OUTCOMES if counts[outcome])
    console.print(f"{len(verdicts)} claims: {found}", markup=False)


def _short(verdict: Verdict) -> str:
    why = reason(verdict)
    more = f" ... (--explain {verdict.claim.id})"
    return why if len(why) <= _LONGEST else why[: _LONGEST - len(more)].rsplit(" ", 1)[0] + more


def print_explained(verdict: Verdict, book: Book, console: Console, today: date) -> None:
    """Everything about one claim; old prices are flagged by the day."""
    claim, document = verdict.claim, book.documents[verdict.claim.document]
    console.print(Text.assemble((f"{claim.id}  ", "bold"), claim.says))
    place = "line" if claim.lines.isdigit() else "lines"
    _say(console, f"source: document {document.letter}, {document.title}; {document.file}, {place} {claim.lines}")
    evidence = f", {verdict.evidence}" if verdict.evidence else ""
    verdict_text = Text(OUTCOME_NAMES[verdict.outcome], _STYLES.get(verdict.outcome, "bold"))
    console.print(Text.assemble("verdict: ", verdict_text, f" ({KIND_NAMES[claim.kind]}{evidence})"))
    _say(console, f"why: {reason(verdict)}")
    if claim.note:
        _say(console, f"note: {claim.note}")
    for finding in verdict.findings:
        _print_finding(finding, console)
    for finding in verdict.also:
        _print_finding(finding, console)
    for leaf in verdict.stale(today):
        _say(console, f"\nstale price: seen on {leaf.as_of}, more than {STALE_AFTER_DAYS} days ago: {leaf.source}")
    for conflict in verdict.conflicts:
        _say(console, f"\ncontradicted: {conflict.group.question} {conflict_text(conflict)}")
    if verdict.missing or verdict.inverted:
        for name in claim.experiments:
            experiment = book.experiments[name]
            command = f"; {experiment.command}" if experiment.command else "; no command for it yet"
            _say(console, f"\nwould answer it: {name}, {experiment.what} ({experiment.hardware}{command})")


def print_contradictions(book: Book, found: Mapping[str, Verdict], console: Console) -> None:
    """Every pair of sides that cannot both be right, with what became of their claims."""
    table = Table("question", "one says", "another says", "verdicts", box=None, pad_edge=False)
    for conflict in all_conflicts(book):
        one, other = conflict_text(conflict).split(" against ")
        table.add_row(Text(conflict.group.question), Text(one), Text(other), conflict_verdicts(conflict, found))
    console.print(table)


def _print_finding(finding: TestFinding, console: Console) -> None:
    test = finding.test
    call = next(iter(test.cases.values()))
    claimed = expected(test.expect, test.unit)
    title = f"\n{test.about or 'test'}: {call.formula.name}" + (
        f", claimed {claimed}" if claimed else ", for information"
    )
    _say(console, title)
    _say(console, f"  {call.formula.says}")
    if finding.missing:
        for leaf in finding.missing:
            _say(console, f"  missing: {leaf.place} in {leaf.files}")
    for case in finding.cases:
        truth = f" -> true at {where(case, finding)}" if claimed and (case.searched or case.truth == "open") else ""
        _say(console, f"  {case.label or 'result'}: {case_values(case, test.unit)}{truth}")
    if claimed:
        _print_inputs(finding, console)


def _print_inputs(finding: TestFinding, console: Console) -> None:
    cases = finding.cases
    shown_call = cases[0].call if cases else next(iter(finding.test.cases.values()))
    if len(cases) > 1:
        _say(console, f"  inputs of the first case, {cases[0].label}:")
    table = Table("    input", "value", "origin", box=None, pad_edge=False)
    for depth, name, value, origin in inputs_of(shown_call):
        table.add_row("  " * (depth + 2) + name, value, Text(origin))
    console.print(table)


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False)
