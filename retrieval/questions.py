"""Questions of which somebody said what answers them: what a knowledge base is measured with."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import CalibrationFailed


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """`file` is the document that answers it; None if none does. Covered without a known file: ""."""

    question: str
    file: str | None


def parse_questions(rows: Iterable[object]) -> list[LabelledQuestion]:
    """From objects with `question` and `file` (null: no document answers it). Raises CalibrationFailed."""
    questions = []
    for number, row in enumerate(rows, start=1):
        text = row.get("question") if isinstance(row, Mapping) else None
        file = row.get("file", 0) if isinstance(row, Mapping) else 0
        if not isinstance(text, str) or not text.strip() or not (file is None or isinstance(file, str)):
            raise CalibrationFailed(
                f'question {number} is not {{"question": "...", "file": "name of the document" or null}}'
            )
        questions.append(LabelledQuestion(text, file))
    return questions


def read_questions(file: Path) -> list[LabelledQuestion]:
    """From lines of JSON. Raises CalibrationFailed."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        return parse_questions([json.loads(line) for line in lines if line.strip()])
    except (OSError, ValueError) as error:
        raise CalibrationFailed(f"{file} cannot be read as one JSON object per line: {error}") from None
