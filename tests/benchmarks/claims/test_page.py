"""What readers see: the page, the scoreboard, and everything about one claim."""

import subprocess
import sys
from io import StringIO

import orjson
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.claims.judging import verdicts
from benchmarks.claims.page import COMMAND, PAGE, page
from benchmarks.claims.reading import read_book
from benchmarks.claims.scoreboard import print_contradictions
from benchmarks.errors import ClaimError
from breakeven.main import command_line
from tests.house.sources import ROOT

BOOK = read_book()


def shown(*options: str) -> str:
    arguments = ["claims", *options]
    ran = CliRunner().invoke(command_line(arguments), arguments, catch_exceptions=False)
    assert ran.exit_code == 0
    return " ".join(ran.stdout.split())


def test_the_page_is_current() -> None:
    assert PAGE.exists(), f"write docs/claims.md with: {COMMAND}"
    current = page(BOOK, verdicts(BOOK))
    assert PAGE.read_text(encoding="utf-8") == current, f"claims, prices or results have changed; run: {COMMAND}"


def test_the_scoreboard_lists_all_claims() -> None:
    table = shown()
    assert all(claim_id in table for claim_id in BOOK.claims)
    assert "148 claims: " in table


def test_a_document_and_a_verdict_are_chosen() -> None:
    listed = orjson.loads(shown("--document", "a", "--verdict", "fails", "--json"))
    assert [one["claim"] for one in listed] == ["A05", "A06", "A19"]
    assert {one["verdict"] for one in listed} == {"fails"}


def test_a_claim_is_explained() -> None:
    text = shown("--explain", "d18")
    for wanted in ("document D", "lines 86, 130", "training_usd", "75 USD", "± 5 %", "verdict: fails"):
        assert wanted in text


def test_what_is_missing_is_said() -> None:
    text = shown("--explain", "A02")
    assert "missing: style/few_shot in benchmarks/results/style/*.json" in text
    assert "would answer it: Q2" in text


def test_an_old_price_is_flagged() -> None:
    assert "stale price: seen on 2024-02-13" in shown("--explain", "A04")
    assert "stale price" not in shown("--explain", "A06")


def test_contradictions_are_side_by_side() -> None:
    console = Console(file=StringIO(), width=400)
    print_contradictions(BOOK, verdicts(BOOK), console)
    assert isinstance(console.file, StringIO)
    text = console.file.getvalue()
    assert "question" in shown("--contradictions")
    assert "B13 not yet measured, D37 not yet measured" in text
    assert "A19 fails, D05 holds" in text


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--explain", "C99"), "A01 to E19"),
        (("--document", "F"), "A, B, C, D, E"),
        (("--verdict", "maybe"), "holds_only_if"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_ones(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(ClaimError, match=says):
        shown(*arguments)


def test_a_mistake_is_one_line() -> None:
    command = [sys.executable, "-m", "breakeven", "claims", "--explain", "C99"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: there is no claim C99")
    assert "Traceback" not in refused.stderr
