"""No command pays for libraries that it does not use."""

import subprocess
import sys

from tests.house.reach import HEAVY
from tests.house.sources import ROOT


def test_the_command_line_starts_without_the_heavy_libraries() -> None:
    # A process of its own: other tests of this one may have imported them.
    question = "import sys, breakeven; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", question], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    assert "serving.app" in loaded.split()
    assert set(HEAVY) & set(loaded.split()) == set()
