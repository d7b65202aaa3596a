"""The ten plots in the order of the page: the first of them stands on the first screen."""

from collections import Counter

from benchmarks.claims.claim import Book
from benchmarks.economics.answer import Answer
from benchmarks.economics.figures import KINDS
from benchmarks.experiments.findings import Gap
from benchmarks.prices import PriceBook
from benchmarks.report.bill_exhibits import monthly_bill, needed_rate
from benchmarks.report.cases import Case
from benchmarks.report.exhibit import Exhibit, not_measured
from benchmarks.report.measured_exhibits import RUN, cost_by_utilisation, latency
from benchmarks.report.modelled_exhibits import ahead, cost_by_volume
from benchmarks.report.risk_exhibits import hangs_on, sure, winner_map
from benchmarks.report.thresholds import thresholds

_MODELLED = (
    ("volume", "Monthly cost by volume"),
    ("needed", "Rate that a hosted price asks for"),
    ("bill", "What a month pays for"),
    ("months", "24 months, summed"),
    ("winner", "Who is cheaper, by volume and retraining"),
    ("tornado", "What the answer hangs on"),
    ("draws", "How sure the break-even volume is"),
)


def exhibits(case: Case, book: Book, prices: PriceBook) -> tuple[Exhibit, ...]:
    """All but the claims' scoreboard, which is no machine's. What rests on an unmeasured rate is said to be missing."""
    answer = case.answer
    if isinstance(answer, Gap):
        command = f"{RUN}, with a step of kind sweep"
        first, *rest = (not_measured(name, title, answer.why, command) for name, title in _MODELLED)
        return (first, latency(case), cost_by_utilisation(case), *rest)
    known = _known(answer)
    return (
        cost_by_volume(answer, thresholds(book), known),
        latency(case),
        cost_by_utilisation(case),
        needed_rate(case, answer, prices),
        monthly_bill(case, answer, known),
        ahead(answer, known),
        winner_map(answer, known),
        hangs_on(answer),
        sure(answer),
    )


def _known(answer: Answer) -> str:
    kinds = Counter(held.kind for held in answer.inputs.values())
    return f"From {', '.join(f'{kinds[kind]} {kind}' for kind in KINDS if kinds[kind])} inputs."
