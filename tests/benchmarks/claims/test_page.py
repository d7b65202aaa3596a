"""What readers see: the page, the scoreboard, and everything about one claim."""

import subprocess
import sys

import orjson
import pytest

from benchmarks.claims.judging import verdicts
from benchmarks.claims.page import COMMAND, PAGE, page
from benchmarks.claims.reading import read_book
from tests.house.sources import ROOT

BOOK = read_book()


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "breakeven", "claims", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_page_is_current() -> None:
    assert PAGE.exists(), f"write docs/claims.md with: {COMMAND}"
    current = page(BOOK, verdicts(BOOK))
    assert PAGE.read_text(encoding="utf-8") == current, f"claims, prices or results have changed; run: {COMMAND}"


def test_the_scoreboard_lists_all_claims() -> None:
    shown = run()
    assert shown.returncode == 0
    assert all(claim_id in shown.stdout for claim_id in BOOK.claims)
    assert "148 claims: " in shown.stdout


def test_a_document_and_a_verdict_are_chosen() -> None:
    listed = orjson.loads(run("--document", "a", "--verdict", "fails", "--json").stdout)
    assert [one["claim"] for one in listed] == ["A05", "A06", "A19"]
    assert {one["verdict"] for one in listed} == {"fails"}


def test_a_claim_is_explained() -> None:
    shown = run("--explain", "d18").stdout
    for wanted in ("document D", "lines 86, 130", "training_usd", "75 USD", "± 5 %", "verdict: fails"):
        assert wanted in shown


def test_what_is_missing_is_said() -> None:
    shown = run("--explain", "A02").stdout
    assert "missing: style/few_shot in benchmarks/results/style/*.json" in shown
    assert "would answer it: Q2" in shown


def test_contradictions_are_side_by_side() -> None:
    shown = run("--contradictions").stdout
    assert "B13" in shown
    assert "D37" in shown


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--explain", "C99"), "A01 to E19"),
        (("--document", "F"), "A, B, C, D, E"),
        (("--verdict", "maybe"), "holds_only_if"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(arguments: tuple[str, ...], says: str) -> None:
    refused = run(*arguments)
    assert refused.returncode == 1
    assert says in " ".join(refused.stderr.split())
    assert "Traceback" not in refused.stderr
