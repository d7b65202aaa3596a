"""Reads a task file: TOML that says of which kind it is. docs/evaluation.md shows one of each."""

import difflib
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from benchmarks.adapter_eval.classification import Classification
from benchmarks.adapter_eval.forgetting import Forgetting
from benchmarks.adapter_eval.match import Match
from benchmarks.adapter_eval.questions import TaskError
from benchmarks.adapter_eval.rules import Rules
from benchmarks.adapter_eval.schema import Schema
from benchmarks.adapter_eval.sql import Sql
from benchmarks.adapter_eval.task import Task

_KINDS: Mapping[str, type[Task]] = {
    "classification": Classification,
    "forgetting": Forgetting,
    "match": Match,
    "rules": Rules,
    "schema": Schema,
    "sql": Sql,
}
_TASK: TypeAdapter[Task] = TypeAdapter(
    Annotated[Classification | Forgetting | Match | Rules | Schema | Sql, Field(discriminator="kind")]
)
_PATHS = ("data", "databases", "schema", "texts")


def load_task(path: Path) -> Task:
    """Raises TaskError that names every wrong key, and the nearest known one for an unknown key."""
    try:
        stated = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TaskError(f"{path} cannot be read ({error.strerror}): give a task file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TaskError(f"{path} is not TOML: {error}") from None
    kind = _KINDS.get(str(stated.get("kind")))
    if kind is None:
        raise TaskError(f"{path.name}: kind must be one of {', '.join(_KINDS)}, not {stated.get('kind')!r}")
    for key in _PATHS:
        if isinstance(stated.get(key), str):
            stated[key] = path.parent / stated[key]
    try:
        return _TASK.validate_python(stated)
    except ValidationError as error:
        wrong = "\n".join(f"  {_explain(item, kind)}" for item in error.errors())
        raise TaskError(f"{path.name}: correct these keys, then run again\n{wrong}") from None


def _explain(item: Mapping[str, Any], kind: type[Task]) -> str:
    where = [str(part) for part in item["loc"] if part not in _KINDS]
    key = ".".join(where)
    if item["type"] == "unexpected_keyword_argument":
        near = difflib.get_close_matches(key, kind.__dataclass_fields__, n=1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    return f"{key}: {item['msg']}"
