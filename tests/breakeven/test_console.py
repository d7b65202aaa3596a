"""What users wrote is printed as they wrote it, whatever it means to the library that prints."""

import json
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.load.summary import MeanCost
from breakeven.console import console, output, print_json
from breakeven.keys import app

HOSTILE = "[/b] :bug:"


def test_a_note_is_no_markup(tmp_path: Path) -> None:
    run = CliRunner(env={"BREAKEVEN_HOME": str(tmp_path)})
    assert run.invoke(app, ["create", "--note", HOSTILE]).exit_code == 0
    listed = run.invoke(app, ["list"])
    assert listed.exit_code == 0, listed.exception
    assert all(word in listed.output for word in HOSTILE.split())


def test_text_goes_out_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    output.print(HOSTILE)
    console.print(HOSTILE)
    printed = capsys.readouterr()
    assert printed.out == printed.err == f"{HOSTILE}\n"


def test_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"never": float("inf"), "text": HOSTILE, "long": "word " * 100})
    assert json.loads(capsys.readouterr().out) == {"never": None, "text": HOSTILE, "long": "word " * 100}


def test_money_in_json_keeps_its_digits(capsys: pytest.CaptureFixture[str]) -> None:
    """As the summary of `breakeven bench --json` has it."""
    print_json([asdict(MeanCost(1, Decimal("0.10"), Decimal("0.05"), {"hosted": Decimal("1E-7")}, "measured"))])
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["allocation_usd"], found["hosted_usd"]) == ("0.10", {"hosted": "1E-7"})
