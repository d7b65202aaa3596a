"""The documents' rules: true to their place in the claims, each of them for some answer and against another."""

from itertools import product
from pathlib import Path
from typing import Any

import pytest

from benchmarks.advice.decision import decide
from benchmarks.advice.rules import opinions, read_rules
from benchmarks.claims.contradictions import all_conflicts
from benchmarks.claims.reading import read_book
from benchmarks.errors import AdviceError
from tests.benchmarks.advice.small_prices import CHEAP, DEAR, needs

RULES, DISPUTES = read_rules()
_GRID: dict[str, list[Any]] = {
    "need": ["knowledge", "behaviour", "both"],
    "updates_per_month": ["never", "monthly", "weekly"],
    "citations": [False, True],
    "per_user": [False, True],
    "examples": [0, 600, 20_000],
    "latency_ms": [150, 1000],
    "budget_usd_per_month": [2_000, 100_000],
    "volume": [5_000, 20_000_000],
}


def test_every_rule_agrees_with_some_answer_and_disagrees_with_another() -> None:
    met: set[tuple[str, bool]] = set()
    for values in product(*_GRID.values()):
        wanted = needs(**dict(zip(_GRID, values, strict=True)))
        for where in (CHEAP, DEAR):
            decision = decide(where, wanted)
            for one in opinions(RULES, wanted, decision):
                right_place = one.rule.self_hosted in (None, decision.option.own)
                assert one.agrees == (decision.option.design in one.rule.recommends and right_place)
                met.add((one.rule.id, one.agrees))
    assert met == {(rule.id, agrees) for rule in RULES for agrees in (True, False)}


def test_rules_are_where_the_claims_are() -> None:
    book = read_book()
    assert {rule.document for rule in RULES} == set(book.documents)
    assert len({rule.id for rule in RULES}) == len(RULES)
    for rule in RULES:
        assert rule.claims and {claim[0] for claim in rule.claims} == {rule.document}
        assert any(_spans(rule.lines) & _spans(str(book.claims[claim].lines)) for claim in rule.claims), rule.id


def _spans(lines: str) -> set[int]:
    low, _, high = lines.partition("-")
    return set(range(int(low), int(high or low) + 1))


def test_every_dispute_is_a_contradiction_that_some_needs_meet_and_others_do_not() -> None:
    disputed = {conflict.group.id for conflict in all_conflicts(read_book())}
    samples = [needs(**dict(zip(_GRID, values, strict=True))) for values in product(*_GRID.values())]
    samples.append(needs(budget_usd_per_month=7000))
    for dispute in DISPUTES:
        assert dispute.group in disputed
        assert {dispute.applies(sample) for sample in samples} == {True, False}, dispute.group


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("when: {colour: red}, recommends: [RAG]", "colour is no input"),
        ("when: {volume: {over: 1}}, recommends: [RAG]", "'over' is none of above"),
        ("when: {}, recommends: [prayer]", "recommends must be some of"),
        ("when: {}, recommends: [RAG], whence: here", "unknown key 'whence'"),
        ("when: {need: food}, recommends: [RAG]", "knowledge, behaviour or both"),
    ],
)
def test_a_rule_that_is_not_written_as_it_must_be(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(f"rules: [{{id: X, document: A, lines: 1, says: y, {row}}}]\ndisputes: []\n")
    with pytest.raises(AdviceError, match=f"rule X: .*{message}"):
        read_rules(path)
