"""The whole advice, as data: decision, costs, what would change it, who disagrees, how sure. terminal.py words it."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from benchmarks.advice.decision import Decision, decide
from benchmarks.advice.flips import Flip, flips
from benchmarks.advice.needs import Needs, Origin
from benchmarks.advice.options import Design, Pair, pairs, tunes
from benchmarks.advice.rules import Opinion, opinions, read_rules
from benchmarks.advice.terms import Terms
from benchmarks.claims.contradictions import Conflict, all_conflicts
from benchmarks.claims.reading import read_book
from benchmarks.economics.answer import HORIZON_MONTHS
from benchmarks.economics.sensitivity import Bar, tornado
from benchmarks.economics.tuning import Strategy, crossover_volume
from benchmarks.economics.uncertainty import Quantiles, monte_carlo

Sure = Literal["high", "medium", "low"]
# The nearest change of the answer, in doublings of an input, and the agreement of the draws, that each grade asks for.
_HIGH, _MEDIUM = (1.0, 0.9), (0.32, 0.7)


@dataclass(frozen=True, slots=True)
class Certainty:
    """How sure, and why not surer. `agreeing` is the share of draws with the same place for the chosen design."""

    grade: Sure
    agreeing: float
    draws: int
    safe: Quantiles
    doubts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Advice:
    """All of it. `crossing` is the volume from which a hosted tuned model without passages costs less than RAG."""

    needs: Needs
    origins: Mapping[str, Origin]
    terms: Terms
    decision: Decision
    costs: Mapping[Design, Pair]
    crossing: Decimal | None
    opinions: tuple[Opinion, ...]
    silent: int
    conflicts: tuple[Conflict, ...]
    flips: tuple[Flip, ...]
    bars: tuple[Bar, ...]
    certainty: Certainty


def advise(terms: Terms, needs: Needs, origins: Mapping[str, Origin], draws: int = 200, seed: int = 0) -> Advice:
    """The advice. Equal arguments give an equal answer; `draws` and `seed` are of the intervals."""
    decision = decide(terms, needs)
    rules, disputes = read_rules()
    heard = opinions(rules, needs, decision)
    book = read_book()
    groups = {dispute.group for dispute in disputes if dispute.applies(needs)}
    found = flips(needs, lambda moved: decide(terms, moved).key)
    costs = pairs(terms, needs)
    return Advice(
        needs=needs,
        origins=origins,
        terms=terms,
        decision=decision,
        costs=costs,
        crossing=_crossing(costs),
        opinions=heard,
        silent=len(rules) - len(heard),
        conflicts=tuple(conflict for conflict in all_conflicts(book) if conflict.group.id in groups),
        flips=found,
        bars=tornado(decision.pair.scenario, decision.pair.mean_volume),
        certainty=_certainty(needs, origins, decision, found, draws, seed),
    )


def _crossing(costs: Mapping[Design, Pair]) -> Decimal | None:
    """Both hosted, at a steady volume and today's prices; None when there is no such volume."""
    months = Decimal(HORIZON_MONTHS)
    return crossover_volume(_strategy(costs["fine-tune"]), _strategy(costs["RAG"]), months)


def _strategy(pair: Pair) -> Strategy:
    monthly = pair.hosted.months[0]
    per_query = pair.per_query_usd
    return Strategy(pair.hosted.setup_usd, monthly - pair.volumes[0] * per_query, per_query)


def _certainty(
    needs: Needs, origins: Mapping[str, Origin], decision: Decision, found: tuple[Flip, ...], count: int, seed: int
) -> Certainty:
    drawn = monte_carlo(decision.pair.scenario, decision.pair.mean_volume, count, seed)
    agreeing = drawn.pays_share if decision.option.own else 1 - drawn.pays_share
    doubts = list(decision.warnings)
    guessed = [flip for flip in found if not origins[flip.name].given]
    nearest = found[0].distance if found else float("inf")
    if guessed:
        doubts.append(f"nobody gave {', '.join(flip.name for flip in guessed)}, and another value changes the answer")
    facts = tunes(decision.option.design) and not needs.behaviour
    grade: Sure = "low"
    if agreeing >= _MEDIUM[1] and nearest >= _MEDIUM[0] and origins["need"].given:
        grade = "medium"
    if grade == "medium" and agreeing >= _HIGH[1] and nearest >= _HIGH[0] and not guessed and not facts:
        grade = "high" if not decision.warnings else "medium"
    return Certainty(grade, agreeing, count, drawn.safe_quantiles, tuple(doubts))
