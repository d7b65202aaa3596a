"""`breakeven report` and `breakeven experiment run`: from files to a page, and mistakes in one line."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.errors import BenchmarkError
from breakeven.main import command_line
from tests.benchmarks.report.made_results import everything, write
from tests.house.sources import ROOT


def ran(*arguments: str) -> str:
    done = CliRunner().invoke(command_line(arguments), list(arguments), catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_results_become_a_page(tmp_path: Path) -> None:
    file = write(tmp_path / "made-up.jsonl.gz", everything())
    said = ran("report", str(file), "--out", str(tmp_path / "out"), "--set", "fte=0", "--volume", "1M")
    assert "10 plots" in said
    page = (tmp_path / "out" / "index.html").read_text()
    assert "the report&#39;s options" in page  # whose assumption it is
    assert "1M queries a month" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("report", "none.jsonl.gz"), "no results file"),
        (("report", "FILE", "--set", "fte"), "INPUT=VALUE"),
        (("report", "FILE", "--set", "ftee=1"), "did you mean 'fte'"),
        (("report", "FILE", "--hosted", "gpt-5000"), "the nearest is"),
        (("experiment", "run", "none.yaml"), "cannot read the plan"),
        (("experiment", "run", str(ROOT / "benchmarks/plans/small.yaml"), "--url", "http://x/v1", "--serve"), "either"),
    ],
)
def test_a_mistake_is_answered(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    file = write(tmp_path / "made-up.jsonl.gz", everything())
    with pytest.raises(BenchmarkError, match=says):
        ran(*(str(file) if each == "FILE" else each for each in arguments))


def test_a_mistake_is_one_line() -> None:
    command = [sys.executable, "-m", "breakeven", "report", "none.jsonl.gz"]
    refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: none.jsonl.gz is no results file")
    assert "Traceback" not in refused.stderr
