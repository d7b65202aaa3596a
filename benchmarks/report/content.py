"""What the report says, before it is HTML or Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from benchmarks.claims.claim import Book
from benchmarks.claims.contradictions import Conflict, all_conflicts
from benchmarks.claims.judging import Verdict
from benchmarks.claims.wording import OUTCOME_NAMES, conflict_text, conflict_verdicts, reason
from benchmarks.experiments.findings import Gap
from benchmarks.prices import PriceBook
from benchmarks.report.cases import Case
from benchmarks.report.claims_exhibit import scoreboard
from benchmarks.report.exhibit import Exhibit, Table, short, svg
from benchmarks.report.exhibits import exhibits
from benchmarks.report.measured_exhibits import kind_of, objectives
from benchmarks.report.measured_tables import comparisons, demand, freshness
from benchmarks.report.story import COMPARED, Measure, Reply, caveat, compared, headline, measures, replies

DOUBTS = (
    "Quality. A token of a small model counts as much as one of a large model.",
    "Other machines. A rate holds for the machine, the engine, the model and the shape of query that it was measured "
    "with, and for nothing else.",
    "Long runs. Minutes of load do not show a day: no restarts, no neighbours, no heat.",
    "People. Their share of the bill is an assumption, and at small volumes it decides the answer.",
    "Prices of tomorrow. List prices are as of their date; discounts, taxes and traffic out are left out.",
    "Correlation. Inputs are drawn one by one, although busy days are also peaky ones.",
)


@dataclass(frozen=True, slots=True)
class Shown:
    """An exhibit as it stands in the page."""

    exhibit: Exhibit
    svg: Markup


@dataclass(frozen=True, slots=True)
class CasePage:
    """What the page says of one machine."""

    prefix: str
    name: str
    day: str
    headline: str
    caveat: str
    simulated: bool
    replies: tuple[Reply, ...]
    plots: tuple[Shown, ...]
    compared: Table
    volume: str
    facts: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    measures: tuple[Measure, ...]
    tables: tuple[tuple[str, Table], ...]


@dataclass(frozen=True, slots=True)
class Line:
    """A verdict in the list of all."""

    id: str
    says: str
    outcome: str
    verdict: str
    evidence: str
    why: str


@dataclass(frozen=True, slots=True)
class Pair:
    """A contradiction, side by side."""

    question: str
    one: str
    other: str
    verdicts: str


@dataclass(frozen=True, slots=True)
class Report:
    """Everything on the page, and what else is written beside it."""

    cases: tuple[CasePage, ...]
    claims: Shown
    verdicts: tuple[Line, ...]
    conflicts: tuple[Pair, ...]
    doubts: tuple[str, ...] = DOUBTS

    @property
    def failing(self) -> tuple[Line, ...]:
        """The claims that fail."""
        return tuple(line for line in self.verdicts if line.outcome == "fails")


def compose(found: Sequence[Case], book: Book, verdicts: Mapping[str, Verdict], prices: PriceBook) -> Report:
    """The report on these machines."""
    return Report(
        cases=tuple(_case(case, f"m{number}", book, prices) for number, case in enumerate(found, 1)),
        claims=_shown(scoreboard(book, verdicts), "all"),
        verdicts=tuple(
            Line(one.claim.id, one.claim.says, one.outcome, OUTCOME_NAMES[one.outcome], one.evidence or "", reason(one))
            for one in verdicts.values()
        ),
        conflicts=tuple(_pair(conflict, verdicts) for conflict in all_conflicts(book)),
    )


def _pair(conflict: Conflict, verdicts: Mapping[str, Verdict]) -> Pair:
    one, other = conflict_text(conflict).split(" against ")
    return Pair(conflict.group.question, one, other, conflict_verdicts(conflict, verdicts))


def _case(case: Case, prefix: str, book: Book, prices: PriceBook) -> CasePage:
    answer = case.answer
    known = not isinstance(answer, Gap)
    return CasePage(
        prefix=prefix,
        name=case.name,
        day=case.day.isoformat(),
        headline=headline(case),
        caveat=caveat(case),
        simulated=case.fingerprint.simulated,
        replies=replies(case),
        plots=tuple(_shown(exhibit, prefix) for exhibit in exhibits(case, book, prices)),
        compared=Table(COMPARED, () if isinstance(answer, Gap) else compared(answer)),
        volume="" if isinstance(answer, Gap) else f"{short(answer.volume)} queries a month",
        facts=_facts(case),
        notes=case.notes,
        measures=measures(case) if known else (),
        tables=tuple((said, table) for said, table in _tables(case) if table.rows),
    )


def _tables(case: Case) -> Iterator[tuple[str, Table]]:
    kind = kind_of(case)
    yield f"The same questions, one thing changed ({kind}; medians, 95 % intervals):", comparisons(case)
    yield f"A document is changed, and asked about at once ({kind}; median, 95 % interval):", freshness(case)
    yield f"Where the machine's time goes (modelled: fitted to {kind} runs; 95 % intervals):", demand(case)


def _facts(case: Case) -> tuple[tuple[str, str], ...]:
    runs = sum(len(each.runs) for each in case.experiments)
    commands = dict.fromkeys(each.origin.command for each in case.experiments)
    commits = dict.fromkeys(each.origin.commit for each in case.experiments)
    return (
        ("machine", case.fingerprint.machine),
        ("base model", case.fingerprint.base_model),
        ("engine", case.fingerprint.engine),
        ("objectives", objectives(case.objectives)),
        (kind_of(case), f"{case.requests} requests in {runs} runs, {case.day.isoformat()}; {case.files}"),
        ("commit", ", ".join(commits)),
        ("command", "; ".join(commands)),
    )


def _shown(exhibit: Exhibit, prefix: str) -> Shown:
    # Made by matplotlib from our own data, its texts escaped by it.
    return Shown(exhibit, Markup("" if exhibit.missing else svg(exhibit, prefix)))  # noqa: S704  # not a user's text
