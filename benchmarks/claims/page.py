"""Writes docs/claims.md from the data: `python -m benchmarks.claims.page`. A test compares the two."""

from collections import Counter
from collections.abc import Mapping, Sequence

from benchmarks.claims.claim import FAST, OUTCOMES, Book
from benchmarks.claims.contradictions import all_conflicts
from benchmarks.claims.expression import Measured, leaves
from benchmarks.claims.judging import Verdict, verdicts
from benchmarks.claims.measurements import ROOT
from benchmarks.claims.reading import read_book
from benchmarks.claims.wording import KIND_NAMES, OUTCOME_NAMES, conflict_text, conflict_verdicts, reason

PAGE = ROOT / "docs" / "claims.md"
COMMAND = "python -m benchmarks.claims.page"

_INTRODUCTION = f"""# The claims and their verdicts

Made from `benchmarks/claims/data` by `{COMMAND}`; a test compares the two.
`breakeven claims --explain D50` shows the formula, every input with its origin, and the threshold behind a verdict.

Five documents about fine-tuning, retrieval and self-hosting make 148 claims that somebody could act on. Each is put in
our words here and tested. Nobody types a verdict: it is computed from the documents' own numbers, dated prices
(`benchmarks/prices`), assumptions that say whose they are (`benchmarks/claims/data/figures.yaml`) and committed
results.

- **holds**: true in every case and over the whole range that the claim covers.
- **fails**: true in none.
- **holds only if**: true in some; the condition is the threshold, found by inverting the formula.
- **not yet measured**: the results file that would answer it is named.
- **not testable**: with the reason.

A claim of several parts is as false as its falsest part. A measurement counts only where its whole 95 % interval is on
one side. What depends on an A10G is judged by what one would have to sustain, for none has been measured.
"""


def page(book: Book, found: Mapping[str, Verdict]) -> str:
    """The whole page as Markdown."""
    parts = [_INTRODUCTION, _counts(book, found), _section("Claims that fail", _of(found, "fails"))]
    parts += [
        _section(
            f"Document {letter}: {document.title}", [one for one in found.values() if one.claim.document == letter]
        )
        for letter, document in book.documents.items()
    ]
    parts += [_contradictions(book, found), _experiments(book, found)]
    return "\n".join(parts)


def _of(found: Mapping[str, Verdict], outcome: str) -> list[Verdict]:
    return [verdict for verdict in found.values() if verdict.outcome == outcome]


def _counts(book: Book, found: Mapping[str, Verdict]) -> str:
    rows = []
    for letter, document in [*book.documents.items(), ("all", None)]:
        counts = Counter(one.outcome for one in found.values() if document is None or one.claim.document == letter)
        rows.append([letter, *(str(counts[outcome]) for outcome in OUTCOMES), str(counts.total())])
    heading = ["document", *(OUTCOME_NAMES[outcome] for outcome in OUTCOMES), "claims"]
    fast = sum(one.claim.kind in FAST for one in found.values())
    return f"## Scoreboard\n\n{_table(heading, rows)}\n{fast} of them are calculations or prices.\n"


def _section(title: str, chosen: Sequence[Verdict]) -> str:
    rows = [
        [one.claim.id, one.claim.says, KIND_NAMES[one.claim.kind], f"**{OUTCOME_NAMES[one.outcome]}**", _why(one)]
        for one in chosen
    ]
    return f"## {title}\n\n{_table(['', 'Claim', 'Test', 'Verdict', 'Why'], rows)}"


def _why(verdict: Verdict) -> str:
    return " ".join(filter(None, (f"{reason(verdict).rstrip('.')}.", verdict.claim.note)))


def _contradictions(book: Book, found: Mapping[str, Verdict]) -> str:
    rows = [
        [conflict.group.question, *conflict_text(conflict).split(" against "), conflict_verdicts(conflict, found)]
        for conflict in all_conflicts(book)
    ]
    heading = ["Question", "One says", "Another says", "Verdicts"]
    return f"## Where the documents contradict each other\n\n{_table(heading, rows)}"


def _experiments(book: Book, found: Mapping[str, Verdict]) -> str:
    """What would answer the open claims, and what a results file must hold for it."""
    places: dict[str, set[str]] = {}
    for verdict in found.values():
        for test in verdict.claim.tests:
            for call in test.cases.values():
                for _, leaf in leaves(call):
                    if isinstance(leaf, Measured):
                        places.setdefault(leaf.files, set()).add(f"`{leaf.place}` ({leaf.unit})")
    waiting = Counter(name for verdict in found.values() if verdict.missing for name in verdict.claim.experiments)
    rows = [
        [name, one.what, one.hardware, f"`{one.command}`" if one.command else "none yet", str(waiting[name])]
        for name, one in book.experiments.items()
    ]
    files = [[f"`{pattern}`", ", ".join(sorted(held))] for pattern, held in sorted(places.items())]
    return (
        "## What would answer the rest\n\n"
        f"{_table(['', 'Experiment', 'Needs', 'Command', 'Claims waiting'], rows)}\n"
        "A figure in a results file is a number, or an object with `value`, `low` and `high`; its `origin` says\n"
        "on what machine it was measured. A new file changes the verdicts by itself.\n\n"
        f"{_table(['Results', 'What is read from them'], files)}"
    )


def _table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    read = read_book()
    PAGE.write_text(page(read, verdicts(read)), encoding="utf-8")
