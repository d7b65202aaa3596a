"""The plot of the verdicts: what became of the documents' claims."""

from collections import Counter
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure as Canvas

from benchmarks.claims.claim import Book, Outcome
from benchmarks.claims.judging import Verdict
from benchmarks.claims.wording import OUTCOME_NAMES
from benchmarks.report.exhibit import BAD, FAINT, GOOD, GRID, INK, SECOND, Exhibit, Table

# In the order in which a reader wants them, not in that of a conjunction.
_SHOWN: tuple[tuple[Outcome, str], ...] = (
    ("holds", GOOD),
    ("holds_only_if", SECOND),
    ("fails", BAD),
    ("not_yet_measured", FAINT),
    ("not_testable", GRID),
)


def scoreboard(book: Book, found: Mapping[str, Verdict]) -> Exhibit:
    """Verdicts by document; none of them is typed by hand."""
    counts = {
        letter: Counter(one.outcome for one in found.values() if one.claim.document == letter)
        for letter in book.documents
    }
    total = Counter(one.outcome for one in found.values())
    said = ", ".join(f"{total[outcome]} {OUTCOME_NAMES[outcome]}" for outcome, _ in _SHOWN if total[outcome])
    evidence = Counter(one.evidence for one in found.values() if one.evidence)
    basis = ", ".join(f"{count} {name}" for name, count in sorted(evidence.items()))
    inverted = sum(one.inverted for one in found.values())
    return Exhibit(
        "claims",
        "What became of the documents' claims",
        says=f"Of {len(found)} claims: {said}.",
        known=f"Verdicts computed from data ({basis}). {inverted} are judged by threshold inversion: nobody has "
        "measured the hardware they speak of, so their verdict says what would have to be true.",
        alt=f"Verdicts on the claims of {len(counts)} documents. {said}",
        table=Table(
            ("document", *(OUTCOME_NAMES[outcome] for outcome, _ in _SHOWN), "claims"),
            tuple(
                (f"{letter}: {document.title}", *(str(counts[letter][outcome]) for outcome, _ in _SHOWN),
                 str(counts[letter].total()))
                for letter, document in book.documents.items()
            ),
        ),
        draw=lambda canvas: _draw(canvas, counts),
    )  # fmt: skip


def _draw(canvas: Canvas, counts: Mapping[str, Counter[Outcome]]) -> None:
    axes = canvas.subplots()
    letters: Sequence[str] = list(counts)[::-1]
    left = [0] * len(letters)
    for outcome, colour in _SHOWN:
        widths = [counts[letter][outcome] for letter in letters]
        axes.barh(range(len(letters)), widths, left=left, height=0.66, color=colour, label=OUTCOME_NAMES[outcome])
        for row, (start, width) in enumerate(zip(left, widths, strict=True)):
            if width >= 3:
                ink = INK if colour == GRID else "white"
                axes.annotate(str(width), (start + width / 2, row), ha="center", va="center", fontsize=8, color=ink)
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(range(len(letters)), letters)
    axes.set(xlabel="claims", ylabel="document")
    axes.grid(visible=False)
    canvas.legend(loc="outside lower center", ncols=3)
