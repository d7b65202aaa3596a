"""JSON schemas of clients, which may be made to be slow: what one may cost is bounded, regular expressions in it are
not run, and it cannot make us fetch anything. Only a gateway that is asked for a schema loads the library.
"""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any

from jsonschema import Draft202012Validator, validators
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

_STEPS = 20_000
_UNCHECKED = frozenset({"pattern", "patternProperties", "format", "$dynamicRef"})
_left: ContextVar[int] = ContextVar("steps")


class _TooDear(Exception):
    pass


def all_valid(schema: Mapping[str, Any], values: Iterable[Any]) -> bool | None:
    """Whether all values are as the schema says; None where that cannot be said."""
    token = _left.set(_STEPS)
    try:
        checked = _of_one_dialect(schema)
        _Bounded.check_schema(checked)
        validator = _Bounded(checked, registry=Registry())
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
