"""What the automatic checker says of an answer; a client's schema can neither fetch, nor run for long, nor crash it."""

import time
from typing import Any

import pytest

from serving.rollout.checks import Check, check_for, passes
from serving.sections import ServedModel

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
PLAIN = ServedModel.model_validate({})
SIGNED = ServedModel.model_validate({"canary": {"pattern": r"[^\n]+\nYours"}})


def by_schema(schema: Any) -> Check:
    check = check_for({"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}, PLAIN)
    assert check is not None
    return check


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "Ann", "age": 3}', True),
        ('{"name": "Ann", "age": -3}', False),
        ('{"age": 3}', False),
        ('{"name": "Ann", "extra": 1}', False),
        ('{"name": "Ann"', False),
        ("Ann", False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_a_schema(text: str, expected: bool) -> None:
    assert passes(by_schema(PERSON), [text]) is expected


def test_every_choice_counts() -> None:
    assert passes(by_schema(PERSON), ['{"name": "Ann"}', "{}"]) is False


def test_what_is_asked_for_decides_what_is_checked() -> None:
    responses: Any = {"text": {"format": {"type": "json_schema", "name": "person", "schema": PERSON}}}
    assert check_for(responses, PLAIN) == Check(True, PERSON)
    assert check_for({"response_format": {"type": "json_object"}}, SIGNED) == Check(True)
    assert check_for({"response_format": {"type": "text"}}, PLAIN) is None
    assert check_for({}, SIGNED) == Check(False, pattern=r"[^\n]+\nYours")
    for odd in ({"text": 3}, {"response_format": {"type": "json_schema", "json_schema": 3}}):
        found = check_for(odd, PLAIN)
        assert found is None or passes(found, ["{}"]) is True


def test_a_pattern_is_for_the_whole_answer() -> None:
    check = check_for({}, SIGNED)
    assert check is not None
    assert [passes(check, [text]) for text in (" Hello\nYours\n", "Hello\nYours, Ann", "")] == [True, False, False]


def bomb(depth: int) -> dict[str, Any]:
    """A schema whose size is linear and whose checking would be exponential in `depth`."""
    both = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(depth)}
    return {"$ref": "#/$defs/d0", "$defs": {**both, f"d{depth}": {"type": "integer"}}}


@pytest.mark.parametrize(
    "schema",
    [
        bomb(40),
        {"$ref": "#"},
        {"$ref": "https://example.com/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"type": "nonsense"},
    ],
)
def test_a_schema_that_cannot_be_checked_gives_no_verdict(schema: dict[str, Any]) -> None:
    started = time.monotonic()
    assert passes(by_schema(schema), ["1"]) is None
    assert time.monotonic() - started < 20


def test_regular_expressions_of_clients_are_not_run() -> None:
    started = time.monotonic()
    slow, text = {"pattern": "(a+)+$", "type": "string"}, '"' + "a" * 60 + '!"'
    assert passes(by_schema(slow), [text]) is True
    for dialect in ("http://json-schema.org/draft-07/schema#", "https://json-schema.org/draft/2019-09/schema"):
        assert passes(by_schema({"allOf": [{"$schema": dialect, **slow}]}), [text]) is True
    assert time.monotonic() - started < 5
