"""Who may see which passage, and what a caller may narrow a search by.

They must not meet: a caller's filter becomes a clause that reaches only the document attributes and the source, never
the keys that carry groups and versions. Who sees what is decided by the catalogue, which also applies the clause: both
are about whole documents, of which there are few, and a passage's document has to pass both.
"""

import math
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from retrieval.errors import BadFilter, BadName

Scalar = str | int | float | bool
Where = dict[str, Any]

GROUP = "group:"
ATTRIBUTE = "attr:"
MAX_DEPTH = 4
MAX_CONDITIONS = 32
MAX_VALUES = 100

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@:/ -]{0,63}")
_COMPARE = frozenset({"$gt", "$gte", "$lt", "$lte"})
_LISTS = frozenset({"$in", "$nin"})
_EQUAL = frozenset({"$eq", "$ne"})


def check_name(kind: str, name: object) -> str:
    """The name, if it is usable as a tenant, knowledge base, group or attribute. Raises BadName."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadName(kind, name, "use 1 to 64 letters, digits, spaces or _ . @ : / - and start with a letter or digit")
    return name


def is_name(name: str) -> bool:
    """Whether it could be one."""
    return _NAME.fullmatch(name) is not None


def stored_groups(groups: Collection[str]) -> dict[str, Scalar]:
    """Groups as metadata of a passage. Raises BadName, also if there are none: nobody could see the document."""
    if not groups:
        raise BadName("group", "", "give at least one; 'everyone' is the one that all callers have")
    return {f"{GROUP}{check_name('group', group)}": True for group in groups}


def stored_attributes(attributes: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """Attributes as metadata of a passage. Raises BadName."""
    for key, value in attributes.items():
        check_name("attribute", key)
        if key == "source" or not _is_scalar(value):
            raise BadName("attribute", key, "its value must be text, a number or true/false, and 'source' is taken")
    return {f"{ATTRIBUTE}{key}": value for key, value in attributes.items()}


def translate(filter: Mapping[str, Any]) -> Where:
    """A caller's filter as a clause that can only narrow: one key each level; several keys in one object mean $and.

    Raises BadFilter for anything else, and for more than MAX_DEPTH levels or MAX_CONDITIONS conditions.
    """
    conditions = _conditions(filter, 1)
    if _size(conditions) > MAX_CONDITIONS:
        raise BadFilter(f"the filter has more than {MAX_CONDITIONS} conditions")
    return conditions


def matches(where: Where, row: Mapping[str, Scalar]) -> bool:
    """Whether a document passes a translated filter; `row` has its stored attributes and its source.

    3 equals 3.0 and no number equals true or text. What lacks the key passes $ne and $nin and nothing else.
    """
    ((key, value),) = where.items()
    if key == "$and":
        return all(matches(part, row) for part in value)
    if key == "$or":
        return any(matches(part, row) for part in value)
    ((operator, operand),) = value.items()
    return _TESTS[operator](row.get(key), operand)


def sources(where: Where) -> list[str] | None:
    """The only sources that can pass a translated filter, None if it names none: saves trying it on every document."""
    if "$and" in where:
        return next((found for part in where["$and"] if (found := sources(part)) is not None), None)
    wanted = where.get("source", {})
    return [wanted["$eq"]] if "$eq" in wanted else wanted.get("$in")


def reads_source(where: Where) -> bool:
    """Whether a translated filter asks for the source at all."""
    return "source" in where or any(reads_source(part) for key in ("$and", "$or") for part in where.get(key, ()))


def join(operator: str, clauses: list[Where]) -> Where:
    """The clauses under $and or $or, if there are two or more."""
    return clauses[0] if len(clauses) == 1 else {operator: clauses}


def _conditions(node: object, depth: int) -> Where:
    if depth > MAX_DEPTH:
        raise BadFilter(f"the filter is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(node, Mapping) or not node or len(node) > MAX_CONDITIONS:
        raise BadFilter(f"each part of a filter must be an object with 1 to {MAX_CONDITIONS} keys")
    clauses: list[Where] = []
    for key, value in node.items():
        if key in ("$and", "$or"):
            if not isinstance(value, list) or not 1 <= len(value) <= MAX_CONDITIONS:
                raise BadFilter(f"{key} needs a list of 1 to {MAX_CONDITIONS} conditions")
            clauses.append(join(key, [_conditions(part, depth + 1) for part in value]))
        else:
            clauses.append(_condition(key, value))
    return join("$and", clauses)


def _condition(key: object, value: object) -> Where:
    if not isinstance(key, str) or not _NAME.fullmatch(key):
        raise BadFilter(f"cannot filter on {str(key)[:64]!r}")
    stored = key if key == "source" else f"{ATTRIBUTE}{key}"
    operator, operand = ("$eq", value) if not isinstance(value, Mapping) else _single(key, value)
    numeric = _is_scalar(operand) and not isinstance(operand, str | bool)
    if (operator in _EQUAL and _is_scalar(operand)) or (operator in _COMPARE and numeric):
        return {stored: {operator: operand}}
    if operator in _LISTS and _is_list(operand):
        return {stored: {operator: operand}}
    raise BadFilter(f"the condition on '{key}' is not an operator with a value it can take")


def _single(key: str, value: Mapping[object, object]) -> tuple[object, object]:
    if len(value) != 1:
        raise BadFilter(f"the condition on '{key}' needs exactly one operator; join several with $and")
    return next(iter(value.items()))


def _is_scalar(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return -(2**63) <= value < 2**63
    return isinstance(value, str | bool)


def _is_list(value: object) -> bool:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_VALUES:
        return False
    return all(_is_scalar(item) and type(item) is type(value[0]) for item in value)


def _size(clause: Where) -> int:
    return sum(sum(map(_size, value)) if key in ("$and", "$or") else 1 for key, value in clause.items())


def _same(stored: Scalar | None, wanted: Scalar) -> bool:
    return isinstance(stored, bool) == isinstance(wanted, bool) and stored == wanted


def _number(stored: Scalar | None) -> bool:
    return isinstance(stored, int | float) and not isinstance(stored, bool)


_TESTS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": _same,
    "$ne": lambda stored, wanted: not _same(stored, wanted),
    "$in": lambda stored, wanted: any(_same(stored, one) for one in wanted),
    "$nin": lambda stored, wanted: not any(_same(stored, one) for one in wanted),
    "$gt": lambda stored, wanted: _number(stored) and stored > wanted,
    "$gte": lambda stored, wanted: _number(stored) and stored >= wanted,
    "$lt": lambda stored, wanted: _number(stored) and stored < wanted,
    "$lte": lambda stored, wanted: _number(stored) and stored <= wanted,
}
