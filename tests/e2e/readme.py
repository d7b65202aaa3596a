"""The README's blocks, ready to run against a stack: what a new user pastes must work.

The walk from examples to production and back is one story of several blocks, told by test_adapter_lifecycle.py; the
others stand alone.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT, Stack

README = (ROOT / "README.md").read_text()
WALK = "## From examples to production, and back"


@dataclass(frozen=True, slots=True)
class Block:
    """What is between the fences, and in which section."""

    language: str
    text: str
    section: str

    def for_stack(self, stack: Stack) -> str:
        """With the addresses and the environment of a test."""
        text = self.text.replace("breakeven bench", f"breakeven bench --url {stack.url}/v1")
        text = text.replace("http://127.0.0.1:8000", stack.url)
        return text.replace(".venv/bin/", f"{Path(sys.executable).parent}/")


def _read(text: str) -> list[Block]:
    sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    return [
        Block(language, block, section.splitlines()[0])
        for section in sections
        for language, block in re.findall(r"^```(\w+)\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    ]


BLOCKS = _read(README)


def walk() -> list[Block]:
    """The walk's blocks, in order."""
    return [block for block in BLOCKS if block.section == WALK]


def alone(language: str) -> list[Block]:
    """The blocks that need no other."""
    return [block for block in BLOCKS if block.language == language and block.section != WALK]
