"""Verdicts of claims that we wrote for it, each with one thing decisive."""

from pathlib import Path
from typing import Any

import pytest

from benchmarks.claims.judging import Verdict, verdicts
from benchmarks.claims.measurements import Results
from benchmarks.claims.wording import reason
from benchmarks.errors import ClaimError
from tests.benchmarks.claims.small_book import book, claim, measured, result


def judged(folder: Path, made: dict[str, Any], **more: Any) -> Verdict:
    return verdicts(book(folder, made, **more), Results(folder))["Z01"]


def tokens(given: Any, **changes: Any) -> dict[str, Any]:
    made = claim()
    made["tests"][0]["inputs"]["tokens"] = given
    made["tests"][0] |= changes
    return made


ANY = {"from": 1000, "to": 10**9, "unit": "tokens", "why": "anything"}


def test_what_is_as_claimed_holds(tmp_path: Path) -> None:
    assert judged(tmp_path, claim()).outcome == "holds"


def test_what_is_not_fails_and_shows_both_figures(tmp_path: Path) -> None:
    verdict = judged(tmp_path, tokens({"is": 10**8, "unit": "tokens"}))
    assert verdict.outcome == "fails"
    assert reason(verdict) == "800 USD; claimed 0.8 USD ± 5 %"


def test_what_is_true_in_part_holds_only_there(tmp_path: Path) -> None:
    verdict = judged(tmp_path, tokens(ANY, expect={"at_least": 8}))
    assert verdict.outcome == "holds_only_if"
    assert reason(verdict) == "tokens at least 1,000,000"


def test_true_over_a_whole_range_holds_and_false_fails(tmp_path: Path) -> None:
    assert judged(tmp_path, tokens(ANY, expect={"above": 0})).outcome == "holds"
    assert judged(tmp_path, tokens(ANY, expect={"below": 0})).outcome == "fails"


def test_cases_that_disagree_are_a_condition(tmp_path: Path) -> None:
    cases = {"one": {}, "three": {"epochs": {"is": 3, "unit": "1"}}}
    verdict = judged(tmp_path, tokens({"is": 100_000, "unit": "tokens"}, cases=cases))
    assert verdict.outcome == "holds_only_if"
    assert reason(verdict) == "one: yes (0.8 USD); three: no (2.4 USD)"


def test_a_claim_is_as_false_as_its_falsest_part(tmp_path: Path) -> None:
    made = claim()
    made["tests"].append(tokens({"is": 1, "unit": "tokens"})["tests"][0])
    assert judged(tmp_path, made).outcome == "fails"
    made["tests"][1] = tokens(ANY)["tests"][0]
    assert judged(tmp_path, made).outcome == "holds_only_if"


def test_without_results_it_says_what_is_missing(tmp_path: Path) -> None:
    verdict = judged(tmp_path, measured({"above": 0}))
    assert verdict.outcome == "not_yet_measured"
    assert reason(verdict) == "missing scores/all in results/*.json"


def test_a_file_without_the_figure_is_no_result(tmp_path: Path) -> None:
    result(tmp_path, "other", {"scores": {"none": 1}})
    assert judged(tmp_path, measured({"above": 0})).outcome == "not_yet_measured"


@pytest.mark.parametrize(
    ("score", "outcome"),
    [
        (0.9, "holds"),
        (0.1, "fails"),
        ({"value": 0.9, "low": 0.8, "high": 0.95}, "holds"),
        ({"value": 0.3, "low": 0.2, "high": 0.4}, "fails"),
        ({"value": 0.6, "low": 0.4, "high": 0.8}, "holds_only_if"),
        ({"value": 0.9, "low": None, "high": None}, "holds"),
    ],
)
def test_a_measurement_counts_only_as_a_whole(tmp_path: Path, score: Any, outcome: str) -> None:
    result(tmp_path, "one", {"scores": {"all": score}})
    assert judged(tmp_path, measured({"above": 0.5})).outcome == outcome


def test_results_that_disagree_are_a_condition(tmp_path: Path) -> None:
    result(tmp_path, "one", {"scores": {"all": 0.9}, "origin": {"cpu_model": "EPYC", "cores": 2}})
    result(tmp_path, "two", {"scores": {"all": 0.1}})
    verdict = judged(tmp_path, measured({"above": 0.5}))
    assert verdict.outcome == "holds_only_if"
    assert reason(verdict) == "one: yes (0.9); two: no (0.1), measured on a CPU"


def test_a_device_is_named(tmp_path: Path) -> None:
    result(tmp_path, "one", {"scores": {"all": 0.9}, "origin": {"device": "NVIDIA A10G", "cpu_model": "EPYC"}})
    assert "measured on a NVIDIA A10G" in reason(judged(tmp_path, measured({"above": 0.5})))


@pytest.mark.parametrize(
    ("content", "place"),
    [({"scores": {"a": 0.9, "b": 0.1}}, "scores/*"), ({"scores": [{"name": "a", "x": 0.9}, {"name": "b", "x": 0.1}]},
                                                      "scores/name=*/x")],
)  # fmt: skip
def test_a_star_stands_for_every_entry(tmp_path: Path, content: Any, place: str) -> None:
    result(tmp_path, "one", content)
    assert reason(judged(tmp_path, measured({"above": 0.5}, place))) == (
        "one a: yes (0.9); one b: no (0.1), measured on a CPU"
    )


UNTIL = {"from": "0.1", "to": "1.0", "unit": "share", "why": "no GPU is measured; any share"}


def test_until_it_is_measured_the_threshold_is_inverted(tmp_path: Path) -> None:
    verdict = judged(tmp_path, measured({"above": 0.5}, until=UNTIL))
    assert (verdict.outcome, verdict.inverted) == ("holds_only_if", True)
    assert reason(verdict).startswith("value at least 0.5 (threshold inversion: no GPU is measured, so")


def test_once_it_is_measured_the_measurement_decides(tmp_path: Path) -> None:
    result(tmp_path, "one", {"scores": {"all": 0.4}})
    verdict = judged(tmp_path, measured({"above": 0.5}, until=UNTIL))
    assert (verdict.outcome, verdict.inverted) == ("fails", False)


def test_broken_results_say_which_file(tmp_path: Path) -> None:
    result(tmp_path, "one", {})
    (tmp_path / "results" / "one.json").write_text("{", encoding="utf-8")
    with pytest.raises(ClaimError, match=r"one\.json"):
        judged(tmp_path, measured({"above": 0.5}))


def test_impossible_inputs_name_their_claim(tmp_path: Path) -> None:
    ratio = {"formula": "ratio", "inputs": {"value": {"is": 1, "unit": "h"}, "other": {"is": 0, "unit": "h"}}}
    with pytest.raises(ClaimError, match="claim Z01 cannot be computed"):
        judged(tmp_path, claim(tests=[{**ratio, "expect": {"above": 0}}]))


def test_agreement_is_no_evidence_and_disagreement_is_a_condition(tmp_path: Path) -> None:
    one = {"id": "Z01", "says": "x", "lines": 1, "kind": "consistency"}
    other = {**one, "id": "Z02"}
    sides = [{"claims": ["Z01"], "low": 1, "high": 7}, {"claims": ["Z02"], "low": 5, "high": 9}]
    group = {"id": "g", "question": "How long?", "unit": "days", "sides": sides}
    assert verdicts(book(tmp_path, one, other, groups=[group]))["Z01"].outcome == "not_testable"
    sides[1]["low"] = 8
    verdict = verdicts(book(tmp_path, one, other, groups=[group]))["Z01"]
    assert verdict.outcome == "holds_only_if"
    assert reason(verdict) == "these are wrong: Z02 (8 to 9 days)"
