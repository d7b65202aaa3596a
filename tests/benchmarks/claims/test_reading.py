"""Data that cannot be judged stops at the door, with the claim's name and what is wrong."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.errors import ClaimError
from tests.benchmarks.claims.small_book import book, claim, measured

TOKENS = {"is": 1, "unit": "tokens"}


def with_input(name: str, given: Any) -> dict[str, Any]:
    made = claim()
    made["tests"][0]["inputs"][name] = given
    return made


def with_test(**changes: Any) -> dict[str, Any]:
    made = claim()
    made["tests"][0] |= changes
    return made


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (with_input("tokens", {"is": 1, "unit": "USD"}), "tokens is in tokens, not in USD"),
        (with_input("tokens", {"is": "many", "unit": "tokens"}), "'many' is no number"),
        (with_input("tokens", {"is": "NaN", "unit": "tokens"}), "no finite number"),
        (with_input("tokens", 5), "is no input"),
        (with_input("tokens", "the tokens"), "no figure of figures.yaml"),
        (with_input("tokens", {"unit": "tokens"}), "names none of"),
        (with_input("tokens", {**TOKENS, "verdict": "holds"}), "unknown key 'verdict'"),
        (with_input("tokens", {"from": 9, "to": 1, "unit": "tokens", "why": "x"}), "from < to"),
        (with_input("tokens", {"from": 0, "to": 1, "unit": "tokens", "why": "x"}), "above zero unless linear"),
        (with_input("tokens", {"from": 1, "to": 2, "unit": "tokens", "why": ""}), "why says"),
        (with_input("usd_per_mtok", {"price": "gpt-5", "field": "input"}), "no price for the hosted model 'gpt-5'"),
        (with_input("usd_per_mtok", {"price": "openai-file-search", "field": "usd"}), "per thousand_searches"),
        (with_input("words", TOKENS), "takes tokens, usd_per_mtok, epochs; look at words"),
        (with_test(formula="guess"), "guess is no formula"),
        (with_test(outcome="holds"), "unknown key 'outcome'"),
        (claim(verdict="holds"), "unknown key 'verdict'"),
        (claim(kind="opinion"), "of no kind"),
        (claim(id="Y01"), "of no document"),
        (claim(tests=[]), "needs tests"),
        (claim(kind="consistency"), "has no tests"),
        (claim(kind="not_testable", tests=[]), "untestable gives the reason"),
        (claim(untestable="a reason"), "of no other"),
        (claim(kind="measured_cpu"), "belong together"),
        (measured({"above": 0}) | {"experiments": []}, "belong together"),
        (measured({"above": 0}) | {"experiments": ["X9"]}, "no experiment is called X9"),
        (claim(same_as=["Z09"]), "Z09"),
    ],
)
def test_it_says_what_is_wrong(tmp_path: Path, made: dict[str, Any], says: str) -> None:
    with pytest.raises(ClaimError, match=f"claim {made['id']}") as raised:
        book(tmp_path, made)
    assert says in str(raised.value)


def test_a_claim_is_there_once(tmp_path: Path) -> None:
    with pytest.raises(ClaimError, match="Z01 is there twice"):
        book(tmp_path, claim(), claim())


def test_a_group_names_claims(tmp_path: Path) -> None:
    group = {"id": "g", "question": "?", "sides": [{"claims": ["Z07"], "stance": "yes"}]}
    with pytest.raises(ClaimError, match="Z07, which is no claim"):
        book(tmp_path, claim(), groups=[group])
