"""The documents' rules as data, and which of them agree with an answer. They do not vote: they are compared with it."""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from benchmarks.advice.decision import Decision
from benchmarks.advice.needs import INPUTS, Needs, Value, parse
from benchmarks.advice.options import DESIGNS, Design, retrieves, tunes
from benchmarks.errors import AdviceError

DATA = Path(__file__).with_name("data") / "rules.yaml"
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "above": operator.gt,
    "at_least": operator.ge,
    "below": operator.lt,
    "at_most": operator.le,
}
_KEYS = {"id", "document", "lines", "claims", "says", "when", "recommends", "self_hosted", "reading"}


@dataclass(frozen=True, slots=True)
class Condition:
    """Inputs must have one of some values, or lie within bounds."""

    name: str
    values: tuple[Value, ...]
    bounds: tuple[tuple[str, Decimal], ...]

    def holds(self, needs: Needs) -> bool:
        """Whether these needs meet it."""
        value = needs.value(self.name)
        if self.values:
            return value in self.values
        return all(_COMPARE[sign](value, bound) for sign, bound in self.bounds)


@dataclass(frozen=True, slots=True)
class Rule:
    """What a document advises, in our words. `lines` are those of its text, `reading` how we read what it leaves open.

    `self_hosted` is None where the document does not say where to run it.
    """

    id: str
    document: str
    lines: str
    claims: tuple[str, ...]
    says: str
    when: tuple[Condition, ...]
    recommends: tuple[Design, ...]
    self_hosted: bool | None
    reading: str

    def applies(self, needs: Needs) -> bool:
        """Whether it speaks about these needs."""
        return all(condition.holds(needs) for condition in self.when)


@dataclass(frozen=True, slots=True)
class Dispute:
    """A question on which documents contradict each other (a group of benchmarks/claims), and when it matters."""

    group: str
    when: tuple[Condition, ...]

    def applies(self, needs: Needs) -> bool:
        """Whether it matters for these needs."""
        return all(condition.holds(needs) for condition in self.when)


@dataclass(frozen=True, slots=True)
class Opinion:
    """A rule that applies, and what it thinks of the answer: `against` is empty when it agrees."""

    rule: Rule
    against: tuple[str, ...]

    @property
    def agrees(self) -> bool:
        """With the whole answer."""
        return not self.against


def opinions(rules: tuple[Rule, ...], needs: Needs, decision: Decision) -> tuple[Opinion, ...]:
    """What every rule that applies says about an answer, and why the answer differs where it does."""
    return tuple(Opinion(rule, _against(rule, decision)) for rule in rules if rule.applies(needs))


def _against(rule: Rule, decision: Decision) -> tuple[str, ...]:
    option, why, found = decision.option, decision.why, list[str]()
    if option.design not in rule.recommends:
        for question, reason in ((retrieves, why.retrieval), (tunes, why.tuning)):
            if question(option.design) not in {question(design) for design in rule.recommends}:
                found.append(reason)
    if rule.self_hosted is not None and rule.self_hosted != option.own:
        found.append(why.hosting)
    return tuple(found)


def read_rules(path: Path = DATA) -> tuple[tuple[Rule, ...], tuple[Dispute, ...]]:
    """The rules and the disputes. AdviceError names the one that is wrong."""
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise AdviceError(f"cannot read {path.name}: {' '.join(str(error).split())}") from error
    rules, disputes = [], []
    for row in found["rules"]:
        try:
            rules.append(_rule(row))
        except (AdviceError, KeyError, TypeError, ValueError) as error:
            raise AdviceError(f"rule {row.get('id')}: {error}") from error
    for row in found["disputes"]:
        disputes.append(Dispute(row["group"], _conditions(row["when"])))
    return tuple(rules), tuple(disputes)


def _rule(row: Mapping[str, Any]) -> Rule:
    if unknown := sorted(set(row) - _KEYS):
        raise AdviceError(f"unknown key {unknown[0]!r}")
    recommends = tuple(design for design in DESIGNS if design in row["recommends"])
    if not recommends or len(recommends) != len(row["recommends"]):
        raise AdviceError(f"recommends must be some of {', '.join(DESIGNS)}")
    return Rule(
        row["id"],
        row["document"],
        str(row["lines"]),
        tuple(row.get("claims", [])),
        row["says"],
        _conditions(row["when"]),
        recommends,
        row.get("self_hosted"),
        row.get("reading", ""),
    )


def _conditions(when: Mapping[str, Any]) -> tuple[Condition, ...]:
    return tuple(_condition(name, given) for name, given in when.items())


def _condition(name: str, given: Any) -> Condition:
    if name not in INPUTS:
        raise AdviceError(f"{name} is no input")
    if isinstance(given, Mapping):
        if unknown := sorted(set(given) - set(_COMPARE)):
            raise AdviceError(f"{name}: {unknown[0]!r} is none of {', '.join(_COMPARE)}")
        return Condition(name, (), tuple((sign, Decimal(str(bound))) for sign, bound in given.items()))
    listed = given if isinstance(given, list) else [given]
    return Condition(name, tuple(parse(name, value) for value in listed), ())
