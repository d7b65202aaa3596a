"""benchmarks/gpu/run.sh with the CPU engine in the GPU's place: every kind of stage once, at toy sizes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load.files import read_results
from tests.conftest import HOME, ROOT, Stack

pytestmark = pytest.mark.e2e
STAGES = "fingerprint correctness gateway training"


def test_the_script_runs_and_resumes(stack: Stack, tmp_path: Path) -> None:
    del stack  # it has converted the base model
    first = _run(tmp_path)
    assert first.returncode == 0, first.stderr[-3000:]
    correct = json.loads((tmp_path / "correctness.json").read_text())
    assert correct["holds"], correct
    assert all(run.errors == () for run in read_results(tmp_path / "gateway.jsonl.gz").runs)
    assert json.loads((tmp_path / "training.json").read_text())["seconds_per_1000_examples"] > 0
    again = _run(tmp_path)
    assert again.returncode == 0, again.stderr[-3000:]
    assert again.stderr.count("skipped") == len(STAGES.split())


def _run(out: Path) -> "subprocess.CompletedProcess[str]":
    chosen = {
        "PYTHON": sys.executable,
        "SCALE": "tiny",
        "DEVICE": "cpu",
        "STAGES": STAGES,
        "BASE": str(HOME / "models" / "smollm2-135m-instruct"),
    }
    return subprocess.run(
        [str(ROOT / "benchmarks" / "gpu" / "run.sh"), str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **chosen},
        timeout=900,
    )
