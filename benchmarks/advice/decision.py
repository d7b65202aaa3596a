"""The decision: a procedure over needs and costs, not a vote of rules. docs/advise.md says it in words.

First what the needs call for, then what budget and people allow of it; where it runs is the economic model's to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from benchmarks.advice.needs import Needs
from benchmarks.advice.options import Design, Option, Pair, pairs, retrieves, tunes
from benchmarks.advice.terms import Terms


@dataclass(frozen=True, slots=True)
class Why:
    """One sentence for each part of the answer."""

    retrieval: str
    tuning: str
    hosting: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What to build and where. `warnings`: needs that it misses, because nothing admissible meets them."""

    option: Option
    pair: Pair
    why: Why
    warnings: tuple[str, ...]

    @property
    def key(self) -> tuple[Design, bool]:
        """What a change of input must alter to count as another answer."""
        return self.option.design, self.option.own


def decide(terms: Terms, needs: Needs) -> Decision:
    """The procedure."""
    costs = pairs(terms, needs)
    chosen = {design: _place(pair, needs) for design, pair in costs.items()}
    wanted = _wanted(terms, needs, chosen)
    design = next((one for one in wanted if not _lacking(chosen[one], needs)), wanted[-1])
    option, pair = chosen[design], costs[design]
    passed = [(one, _lacking(chosen[one], needs)) for one in wanted[: wanted.index(design)]]
    why = Why(_why_retrieval(needs, option), _why_tuning(terms, needs, option, passed), _why_place(pair, option, needs))
    return Decision(option, pair, why, _warnings(needs, option, pair))


def must_retrieve(needs: Needs) -> bool:
    """Sources and scopes exist at the time of the question only."""
    return needs.citations or needs.per_user


def _place(pair: Pair, needs: Needs) -> Option:
    """Self-hosted only where the economic model says that it pays, and where somebody can look after it."""
    return pair.own if pair.own_pays and pair.own.people <= needs.people else pair.hosted


def _wanted(terms: Terms, needs: Needs, chosen: Mapping[Design, Option]) -> list[Design]:
    """Designs that meet what is missing, the fullest first; the last is the least that does."""
    enough = needs.examples >= terms.given["enough_examples"].value
    tune = needs.behaviour and enough
    if not needs.knowledge and not must_retrieve(needs):
        return ["fine-tune", "prompt"] if tune else ["prompt"]
    least: list[Design] = ["both", "RAG"] if tune else ["RAG"]
    if must_retrieve(needs) or not enough or _too_fast(terms, needs):
        return least
    rag, tuned = chosen[least[0]], chosen["fine-tune"]
    late = rag.first_token_ms > needs.latency_ms >= tuned.first_token_ms
    cheap = tuned.total_usd < rag.total_usd * (1 - terms.given["facts_saving_share"].value)
    return ["fine-tune", *least] if late or cheap else least


def _too_fast(terms: Terms, needs: Needs) -> bool:
    return needs.updates_per_month > terms.given["tunable_updates_per_month"].value


def _lacking(option: Option, needs: Needs) -> str:
    """What the design needs and is not there; empty when nothing is missing."""
    if option.usd_per_month > needs.budget_usd_per_month:
        return f"it costs ${option.usd_per_month:,.0f} a month, set-up spread over the horizon"
    if option.people > needs.people:
        return f"it needs {option.people:.2g} of a person"
    return ""


def _why_retrieval(needs: Needs, option: Option) -> str:
    if not retrieves(option.design):
        if not needs.knowledge:
            return "nothing to retrieve: no knowledge, sources or scopes are asked for"
        return (
            "left out: facts are stable, unsourced and unscoped; tuning them in is much cheaper, or alone fast enough"
        )
    if needs.citations:
        return "answers must name sources, which only what was retrieved can"
    if needs.per_user:
        return "each user sees other documents, which must be decided at the time of the question"
    changes = f"changes a month: {plain(needs.updates_per_month)}"
    return f"knowledge is asked for, and an index follows it without a retraining ({changes})"


def _why_tuning(terms: Terms, needs: Needs, option: Option, passed: Sequence[tuple[Design, str]]) -> str:
    if tunes(option.design):
        if needs.behaviour:
            return f"behaviour is asked for, and {plain(needs.examples)} examples are enough to try an adapter"
        return "the facts can be tuned in: enough examples, few changes, no sources, no scopes"
    dropped = next((reason for design, reason in passed if tunes(design)), "")
    if dropped:
        return f"left out: {dropped}; use the prompt and structured outputs"
    if not needs.behaviour:
        return "no behaviour is asked for, and facts are looked up rather than tuned in"
    least = plain(terms.given["enough_examples"].value)
    return f"{plain(needs.examples)} examples are fewer than {least}; use the prompt and structured outputs"


def _why_place(pair: Pair, option: Option, needs: Needs) -> str:
    apart = pair.own.total_usd - pair.hosted.total_usd
    if option.own:
        return f"self-hosting saves ${-apart:,.0f} over {len(pair.volumes)} months"
    if pair.own_pays:
        return f"self-hosting would pay, but needs {pair.own.people:.2g} of a person and there is {plain(needs.people)}"
    never = "at no volume does self-hosting pay; it" if pair.where.never else "self-hosting"
    return f"{never} costs ${apart:,.0f} more over {len(pair.volumes)} months"


def _warnings(needs: Needs, option: Option, pair: Pair) -> tuple[str, ...]:
    found = []
    if option.usd_per_month > needs.budget_usd_per_month:
        over = option.usd_per_month - needs.budget_usd_per_month
        instead = (
            "self-hosting would cost less, with people for it"
            if pair.own_pays and not option.own
            else ("nothing that meets the needs costs less")
        )
        found.append(f"over budget by ${over:,.0f} a month: {instead}")
    if option.people > needs.people:
        found.append(f"it needs {option.people:.2g} of a person and there is {plain(needs.people)}")
    if option.first_token_ms > needs.latency_ms:
        found.append(_late(option, pair, needs))
    if tunes(option.design) and not retrieves(option.design) and needs.knowledge:
        found.append("facts tuned in may be wrong with confidence, and nobody measured how often; evaluate first")
    if retrieves(option.design) and needs.examples == 0:
        found.append("without examples of questions nobody can tell how well retrieval answers; write some first")
    return tuple(found)


def _late(option: Option, pair: Pair, needs: Needs) -> str:
    said = f"the first token is estimated at {plain(option.first_token_ms)} ms, later than {plain(needs.latency_ms)} ms"
    if option.own or pair.own.first_token_ms > needs.latency_ms:
        return f"{said}; nothing that meets the other needs is faster"
    apart = pair.own.usd_per_month - pair.hosted.usd_per_month
    return f"{said}; self-hosting would keep it, for ${apart:,.0f} more a month"


def plain(number: Decimal) -> str:
    """A number without an exponent, to three places."""
    return f"{float(number):,.3f}".rstrip("0").rstrip(".")
