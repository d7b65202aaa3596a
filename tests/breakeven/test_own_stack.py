"""A stack that was started for one command ends with it, even if that is killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

ROOT = Path(__file__).parents[2]
COMMAND = """
import sys, time
from pathlib import Path
from rich.console import Console
from breakeven.own_stack import own_stack

with own_stack(Path(sys.argv[1]), Path(sys.argv[2]), Console(stderr=True)) as (url, process):
    print(url, process, flush=True)
    time.sleep(600)
"""
CONFIG = "{engine: {kind: simulated}, models: {plain: {}}, cost: {usd_per_hour: 1}}"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a killed command cannot end its stack")
def test_a_killed_command_leaves_no_stack(tmp_path: Path) -> None:
    (tmp_path / "breakeven.yaml").write_text(CONFIG)
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tmp_path / "breakeven.yaml"), str(tmp_path / "log")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        env={**os.environ, "BREAKEVEN_HOME": str(tmp_path / "home"), "PYTHONPATH": str(ROOT)},
        text=True,
    ) as command:
        assert command.stdout is not None
        said = command.stdout.readline().split()
        assert len(said) == 2, (tmp_path / "log").read_text()
        url, stack = said[0], int(said[1])
        assert httpx.get(f"{url}/models").status_code == 200
        command.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 30
    while _runs(stack) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = _runs(stack)
    if left:
        os.kill(stack, signal.SIGKILL)
    assert not left
    # In good order: the ledger was closed.
    assert not list((tmp_path / "home" / "ledger.db.runs").iterdir())


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
