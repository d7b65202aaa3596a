"""JSON that keeps to a schema: by itself, and when the engine's guided decoding makes it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jsonschema

from benchmarks.adapter_eval.figures import share
from benchmarks.adapter_eval.questions import Question, TaskError, read_lines
from benchmarks.adapter_eval.task import Answer, Ask, Scored, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema(Task):
    """`schema` is a file. Every question is asked twice: freely, then guided."""

    kind: Literal["schema"]
    schema: Path

    def asks(self, questions: Sequence[Question]) -> list[Ask]:
        """See Task.asks."""
        form = {"type": "json_schema", "json_schema": {"name": self.name, "schema": self._schema()}}
        guided = [self.chat(question, response_format=form) for question in questions]
        return [*(self.chat(question) for question in questions), *guided]

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Scored:
        """The share of answers that are JSON and valid, freely and guided; guided ones fail when they are cut off."""
        validator = jsonschema.Draft202012Validator(self._schema())
        valid = [_valid(answer.text, validator) for answer in answers]
        free, guided = valid[: len(questions)], valid[len(questions) :]
        return Scored([share("valid", free), share("valid_guided", guided)])

    def _schema(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads("\n".join(read_lines(self.schema)))
            jsonschema.Draft202012Validator.check_schema(found)
        except ValueError as error:
            raise TaskError(f"{self.schema.name} is not JSON: {error}") from None
        except jsonschema.SchemaError as error:
            raise TaskError(f"{self.schema.name} is not a JSON schema: {error.message}") from None
        return found


def _valid(text: str, validator: jsonschema.Draft202012Validator) -> bool:
    try:
        return bool(validator.is_valid(json.loads(text)))
    except (ValueError, RecursionError):
        return False
