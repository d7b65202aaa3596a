"""The answer in words: does it pay, at what volume, how sure are we. The first screen is made of these."""

from dataclasses import dataclass

from benchmarks.economics.answer import Answer, Comparison
from benchmarks.economics.figures import KINDS, Figure
from benchmarks.economics.terminal import cents, dollars, plain, why_never
from benchmarks.experiments.findings import Gap
from benchmarks.report.cases import Case
from benchmarks.report.exhibit import short, spread


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer to one of the three questions: a few big words, a sentence, and how it is known."""

    question: str
    big: str
    says: str
    kind: str


def headline(case: Case) -> str:
    """One sentence."""
    answer = case.answer
    if isinstance(answer, Gap):
        return f"Nobody can say yet: {answer.why}."
    one = answer.comparisons[0]
    if one.where.never:
        return f"No: on this machine, self-hosting costs more than {one.model} at every volume."
    if one.where.safe is None:
        return f"Hardly: self-hosting is cheaper than {one.model} at some volumes only."
    return f"It pays from {short(one.where.safe)} queries a month on, against {one.model}."


def replies(case: Case) -> tuple[Reply, ...]:
    """The three answers; none when the rate is not known."""
    answer = case.answer
    if isinstance(answer, Gap):
        return ()
    one = answer.comparisons[0]
    return (_pays(answer, one), _where(answer, one), _sure(case, one))


def _pays(answer: Answer, one: Comparison) -> Reply:
    question = "Does it pay?"
    full = cents(answer.own.slope_usd)
    price = cents(one.hosted.usd_per_query)
    others = [other.model for other in answer.comparisons[1:] if not other.where.never]
    also = f" It can against {' and '.join(others)}." if one.where.never and others else ""
    says = f"A query costs {full} on a full machine and {price} at {one.model}, token for token.{also}"
    return Reply(question, "No" if one.where.never else "Yes, at enough volume", says, "modelled")


def _where(answer: Answer, one: Comparison) -> Reply:
    question = "At what volume?"
    if one.where.never:
        return Reply(question, "None", why_never(answer, one), "modelled")
    if one.where.safe is None:
        islands = ", ".join(f"{short(part.low)} to {short(part.high or part.low)}" for part in one.where.islands[:3])
        return Reply(question, "Some", f"Between {islands} queries a month, and at no higher volume.", "modelled")
    first = one.where.first
    early = f" It first pays at {short(first)}." if first is not None and first != one.where.safe else ""
    says = (
        f"Queries a month from which it always pays against {one.model}, people and idle time included.{early} "
        f"That is {max(answer.own.replicas(one.where.safe))} of these machines."
    )
    return Reply(question, short(one.where.safe), says, "modelled")


def _sure(case: Case, one: Comparison) -> Reply:
    answer = case.answer
    inputs = answer.inputs if isinstance(answer, Answer) else {}
    counts = ", ".join(
        f"{count} {kind}" for kind in KINDS if (count := sum(held.kind == kind for held in inputs.values()))
    )
    draws = one.draws
    never = draws.safe_quantiles.never_share
    if one.where.never:
        some = 1 - draws.first_quantiles.never_share
        big = f"{1 - some:.0%}"
        says = f"of {len(draws.safe)} draws find no volume that pays. Inputs: {counts}."
    else:
        big = spread(draws.safe_quantiles)
        says = (
            f"90 % of {len(draws.safe)} draws of the inputs lie there; {1 - never:.0%} of all have such a volume. "
            f"Inputs: {counts}."
        )
    return Reply("How sure are we?", big, says, "modelled")


def compared(answer: Answer) -> tuple[tuple[str, ...], ...]:
    """One line per hosted model: its price, where self-hosting pays, how sure, and when it is paid back."""
    return tuple(
        (
            one.model,
            cents(one.hosted.usd_per_query),
            "never" if one.where.never else short(one.where.safe) if one.where.safe is not None else "some",
            spread(one.draws.safe_quantiles),
            f"{1 - one.draws.safe_quantiles.never_share:.0%}",
            f"{'-' if one.saved_usd < 0 else ''}{dollars(abs(one.saved_usd))}",
            f"month {one.payback_month}" if one.payback_month else "not in 24",
        )
        for one in answer.comparisons
    )


COMPARED = (
    "hosted model",
    "$/query",
    "pays from, a month",
    "90 % interval",
    "draws that pay",
    "saved a month",
    "repaid",
)


@dataclass(frozen=True, slots=True)
class Measure:
    """A line of what was measured."""

    what: str
    value: str
    kind: str
    source: str


def measures(case: Case) -> tuple[Measure, ...]:
    """The figures that the results give, each with its kind and source."""
    answer = case.answer
    if isinstance(answer, Gap):
        return ()
    ordered = sorted(answer.inputs.items(), key=lambda item: (KINDS.index(item[1].kind), item[0]))
    return tuple(Measure(name.replace("_", " "), _value(held), held.kind, _seen(held)) for name, held in ordered)


def _value(held: Figure) -> str:
    low, high = held.bounds()
    return plain(held.value) if low == high else f"{plain(held.value)} ({plain(low)} to {plain(high)})"


def caveat(case: Case) -> str:
    """What a reader must know before anything else."""
    if case.fingerprint.simulated:
        return (
            "SIMULATED: no model was behind these answers. Nothing on this page is a measurement; what a measurement "
            "would have given is taken as an assumption."
        )
    model = case.fingerprint.base_model
    return f"Tokens are compared, not quality: the answers of {model} are not those of a larger model."


def _seen(held: Figure) -> str:
    return held.source + (f", {held.as_of}" if held.as_of else "")
