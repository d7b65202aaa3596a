"""The README's commands, run as they stand: what a new user pastes must work."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from serving.sections import Settings
from tests.conftest import HOME, ROOT, Stack
from tests.e2e.readme import BLOCKS, README, Block, alone


def test_every_block_is_one_that_these_tests_know() -> None:
    assert {block.language for block in BLOCKS} == {"bash", "python", "yaml"}


@pytest.mark.parametrize("block", alone("yaml"))
def test_configuration_is_accepted(block: Block) -> None:
    Settings.model_validate(yaml.safe_load(block.text))


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make (\w+)|`make (\w+)", README, re.MULTILINE))
    for target in {one or other for one, other in targets}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.e2e
@pytest.mark.parametrize("block", [block for block in alone("bash") if not block.text.startswith("make ")])
def test_commands_work(stack: Stack, tmp_path: Path, block: Block) -> None:
    done = subprocess.run(
        ["/bin/bash", "-euc", block.for_stack(stack)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        # A key would close the stack to the tests after this one.
        env={**os.environ, "BREAKEVEN_HOME": str(tmp_path if "keys create" in block.text else HOME)},
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "error" not in done.stdout[:20]


@pytest.mark.e2e
@pytest.mark.parametrize("block", alone("python"))
def test_python_works(stack: Stack, block: Block) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block.for_stack(stack)], capture_output=True, check=False, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "it/accounts-and-passwords.md" in done.stdout
