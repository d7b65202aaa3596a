"""`breakeven keys`: what limits a key is made with, given and shown."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from breakeven.keys import app, read_rates
from serving.auth import KeyRefused
from serving.sharing import RateLimits


def run(home: Path, *arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, env={"BREAKEVEN_HOME": str(home), "COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return str(done.stdout)


def id_of(key: str) -> str:
    return key.split("bk-")[1].split("-", maxsplit=1)[0]


def test_limits_are_set_shown_and_taken_away(tmp_path: Path) -> None:
    made = id_of(run(tmp_path, "create", "--requests-per-minute", "60", "--tokens-per-minute", "40000"))
    plain = id_of(run(tmp_path, "create"))
    lines = [re.split(r"\s*│\s*", line.strip("│ ")) for line in run(tmp_path, "list").splitlines()]
    shown = {cells[0]: cells[5:7] for cells in lines if len(cells) > 6}
    assert (shown[made], shown[plain]) == (["60", "40000"], ["none", "none"])
    assert run(tmp_path, "update", made, "--tokens-per-minute", "0") == f"{made}: any number of tokens per minute\n"
    assert "40000" not in run(tmp_path, "list")
    said = run(tmp_path, "update", plain, "--tokens-per-minute", "500", "--requests-per-minute", "5")
    assert said == f"{plain}: 5 requests per minute\n{plain}: 500 tokens per minute\n"


def test_what_is_no_limit_is_refused_with_its_option() -> None:
    assert read_rates(0, None) == RateLimits()
    with pytest.raises(KeyRefused, match=r"--tokens-per-minute: .*100000000"):
        read_rates(None, 10**9)
