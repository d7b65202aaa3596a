"""Results in files: what was printed, whole, or else what was there before."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.result_file import keep, show


@dataclass(frozen=True, slots=True)
class Part:
    seconds: float


@dataclass(frozen=True, slots=True)
class Whole:
    name: str
    parts: tuple[Part, ...]


WHOLE = Whole("ü", (Part(0.5), Part(1e-7)))
PLAIN = {"name": "ü", "parts": [{"seconds": 0.5}, {"seconds": 1e-7}]}


def test_what_is_printed_is_what_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "result.json"
    for result in (WHOLE, {"name": "ü", "parts": [Part(0.5), Part(1e-7)]}):
        show(result, out)
        assert json.loads(capsys.readouterr().out) == json.loads(out.read_text()) == PLAIN
    show(WHOLE, None)
    assert [path.name for path in out.parent.iterdir()] == ["result.json"]


def test_a_result_that_cannot_be_kept_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    keep(WHOLE, out)
    with pytest.raises(TypeError):
        keep({"name": object()}, out)
    assert json.loads(out.read_text()) == PLAIN
