"""No command pays for libraries that it does not use."""

import subprocess
import sys

import click
import pytest
import typer

from breakeven.main import COMMANDS, command_line
from tests.house.reach import HEAVY
from tests.house.sources import ROOT


def _loaded_by(statement: str) -> set[str]:
    # A process of its own: other tests of this one may have imported them.
    question = f"import sys; {statement}; print(*sys.modules)"
    return set(
        subprocess.run(
            [sys.executable, "-c", question], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout.split()
    )


def test_the_list_of_commands_needs_no_package() -> None:
    loaded = _loaded_by("from breakeven.main import command_line; command_line(['--help'])")
    assert "breakeven.main" in loaded
    assert {"serving", "retrieval", "adapters", "benchmarks"} & loaded == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_loads_its_own_module_and_no_heavy_library(name: str) -> None:
    loaded = _loaded_by(f"from breakeven.main import command_line; command_line(['{name}'])")
    assert COMMANDS[name][0].partition(":")[0] in loaded
    assert set(HEAVY) & loaded == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_the_command_says_of_itself(name: str) -> None:
    group = typer.main.get_command(command_line([name]))
    assert isinstance(group, click.Group | typer.core.TyperGroup)
    assert (group.commands[name].help or "").partition("\n")[0] == COMMANDS[name][1]
