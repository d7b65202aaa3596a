"""docs/learning-curve.md says what the results files hold, and says so where there is none."""

import json
from pathlib import Path

from benchmarks.claims.judging import verdicts
from benchmarks.claims.reading import read_book
from benchmarks.learning_curve_page import COMMAND, PAGE, RESULTS, page

FOUND = verdicts(read_book())
ORIGIN = {"command": "c", "commit": "d", "started_at": "2026-11-20T10:07:58", "cpu_model": "e", "cores": 2}


def point(examples: int, accuracy: float) -> dict[str, object]:
    figures = [
        {"name": f"banking77.{name}", "value": accuracy, "low": accuracy / 2, "high": (1 + accuracy) / 2}
        for name in ("accuracy", "macro_f1")
    ]
    return {
        "examples": examples,
        "epochs": 3,
        "train_seconds": 90.0,
        "questions": 3080,
        "questions_in_training": 4,
        "figures": figures,
        "origin": ORIGIN,
    }


def test_the_page_is_current() -> None:
    assert PAGE.exists(), f"write docs/learning-curve.md with: {COMMAND}"
    assert PAGE.read_text(encoding="utf-8") == page(RESULTS, FOUND), f"results or claims have changed; run: {COMMAND}"


def test_what_is_not_measured_is_said(tmp_path: Path) -> None:
    text = page(tmp_path, FOUND)
    assert text.count("not yet measured |") >= 6
    assert "```" not in text


def test_points_become_rows_and_bars(tmp_path: Path) -> None:
    content = {"points": [point(10_000, 0.8), point(500, 0.4)]}
    (tmp_path / "banking77.json").write_text(json.dumps(content))
    text = page(tmp_path, FOUND)
    assert (
        "| 500 | 3 | 0.400 (0.200 to 0.700) | 50% | 0.400 (0.200 to 0.700) | 3,080 (4 of them in training) | 2 min |"
        in text
    )
    assert "| 100 |  | not yet measured |" in text
    assert f"    500  {'#' * 20:<50}  0.400\n 10,000  {'#' * 40:<50}  0.800" in text
    assert text.count("- `c` at d, 2026-11-20, 2 cores of e") == 1
