"""The automatic checker: does an answer have the form that was asked for?

Either the JSON schema of the request's own `response_format` (or Responses' `text.format`), or the served model's
pattern. The schema is a client's and may be made to be slow: what it may cost is bounded, regular expressions in it
are not run, and it cannot make us fetch anything. A check that is too dear gives no verdict.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from serving.sections import ServedModel

_STEPS = 20_000
_UNCHECKED = frozenset({"pattern", "patternProperties", "format", "$dynamicRef"})
_left: ContextVar[int] = ContextVar("steps")


class _TooDear(Exception):
    pass


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
    token = _left.set(_STEPS)
    try:
        schema = _of_one_dialect(check.schema)
        _Bounded.check_schema(schema)
        validator = _Bounded(schema, registry=Registry())
        return all(validator.is_valid(value) for value in values)
    except (_TooDear, RecursionError, SchemaError, Unresolvable):
        return None
    finally:
        _left.reset(token)


def _of_one_dialect(schema: Any) -> Any:
    """Without `$schema`, at which jsonschema would go on with that dialect's own validator, which has no bounds."""
    if isinstance(schema, dict):
        return {name: _of_one_dialect(value) for name, value in schema.items() if name != "$schema"}
    return [_of_one_dialect(each) for each in schema] if isinstance(schema, list) else schema


Keyword = Callable[..., Any]


def _counted(keyword: Keyword) -> Keyword:
    def check(*arguments: Any) -> Any:
        left = _left.get() - 1
        if left < 0:
            raise _TooDear
        _left.set(left)
        return keyword(*arguments)

    return check


_Bounded = validators.extend(
    Draft202012Validator,
    {
        name: (lambda *_: ()) if name in _UNCHECKED else _counted(keyword)
        for name, keyword in Draft202012Validator.VALIDATORS.items()
    },
)
