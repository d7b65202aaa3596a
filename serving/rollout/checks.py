"""The automatic checker: does an answer have the form that was asked for?

Either the JSON schema of the request's own `response_format` (or Responses' `text.format`), or the served model's
pattern. The schema is a client's, see schemas.py. A check that is too dear gives no verdict.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.sections import ServedModel


@dataclass(frozen=True, slots=True)
class Check:
    """`schema` None: any JSON will do. Without `is_json` the whole text must match `pattern`."""

    is_json: bool
    schema: Mapping[str, Any] | bool | None = None
    pattern: str = ""


def check_for(fields: Mapping[str, Any], entry: ServedModel) -> Check | None:
    """What an answer to this request is checked for; None: nothing was asked for."""
    text = fields.get("text")
    form = fields.get("response_format") or (text.get("format") if isinstance(text, dict) else None)
    kind = form.get("type") if isinstance(form, dict) else None
    if isinstance(form, dict) and kind == "json_schema":
        inner = form.get("json_schema", form)
        return Check(True, inner.get("schema") if isinstance(inner, dict) else None)
    if kind == "json_object":
        return Check(True)
    return None if entry.canary.pattern is None else Check(False, pattern=entry.canary.pattern)


def passes(check: Check, texts: Sequence[str]) -> bool | None:
    """Whether all choices of an answer are as asked; None where that cannot be said. May take a while: use a thread."""
    if not check.is_json:
        return all(re.fullmatch(check.pattern, text.strip()) is not None for text in texts)
    try:
        values = [json.loads(text) for text in texts]
    except (ValueError, RecursionError):
        return False
    if not isinstance(check.schema, dict):
        return True
    from serving.rollout.schemas import all_valid

    return all_valid(check.schema, values)
