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

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [text for found, text in BLOCKS if found == language]


def test_every_block_is_one_that_these_tests_know() -> None:
    assert {language for language, _ in BLOCKS} == {"bash", "python", "yaml"}


@pytest.mark.parametrize("text", blocks("yaml"))
def test_configuration_is_accepted(text: str) -> None:
    Settings.model_validate(yaml.safe_load(text))


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^make (\w+)|`make (\w+)", README, re.MULTILINE))
    for target in {one or other for one, other in targets}:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.e2e
@pytest.mark.parametrize("text", [text for text in blocks("bash") if not text.startswith("make ")])
def test_commands_work(stack: Stack, tmp_path: Path, text: str) -> None:
    done = subprocess.run(
        ["/bin/bash", "-euc", _for(stack, text)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        # A key would close the stack to the tests after this one.
        env={**os.environ, "BREAKEVEN_HOME": str(tmp_path if "keys create" in text else HOME)},
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "error" not in done.stdout[:20]


@pytest.mark.e2e
@pytest.mark.parametrize("text", blocks("python"))
def test_python_works(stack: Stack, text: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _for(stack, text)], capture_output=True, check=False, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "it/accounts-and-passwords.md" in done.stdout


def _for(stack: Stack, text: str) -> str:
    text = text.replace("breakeven bench", f"breakeven bench --url {stack.url}/v1")
    return text.replace("http://127.0.0.1:8000", stack.url).replace(".venv/bin/", f"{Path(sys.executable).parent}/")
