"""Requests: what is refused, what is capped, and that all the rest is left alone."""

from dataclasses import replace
from typing import Any

import orjson
import pytest

from serving import openai
from serving.errors import BadRequest
from serving.limits import COSTLY, REFUSED, Limits, check_costly
from serving.openai import parse_completion

LIMITS = Limits(max_n=4, max_logprobs=5, max_schema_bytes=300, max_top_k=10)
MESSAGES = [{"role": "user", "content": "hi"}]


def parse(**fields: Any) -> openai.CompletionRequest:
    return parse_completion(orjson.dumps({"model": "m", "messages": MESSAGES, **fields}), "chat", LIMITS)


def test_everything_else_is_passed_on_untouched() -> None:
    extras = {
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}},
        "logprobs": True,
        "top_logprobs": 5,
        "n": 4,
        "seed": 1,
        "stop": ["x"],
        "top_k": 3,
        "repetition_penalty": 1.1,
        "some_future_field": {"a": [1]},
    }
    assert parse(**extras).fields == {"model": "m", "messages": MESSAGES, **extras}


def test_our_extension_is_taken_out() -> None:
    request = parse(breakeven={"knowledge": "books", "top_k": 2, "min_score": 0.1, "filter": {"source": "a"}})
    assert "breakeven" not in request.fields
    assert request.extension == openai.Extension("books", 2, 0.1, {"source": "a"})


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_dangerous_fields_are_refused_with_a_reason(name: str) -> None:
    with pytest.raises(BadRequest, match=name) as caught:
        parse(**{name: 1})
    assert REFUSED[name] in caught.value.message


def test_a_dangerous_zero_is_no_way_around() -> None:
    with pytest.raises(BadRequest, match="priority"):
        parse(priority=0)


SCORER = replace(LIMITS, max_scored_bytes=20)


def score(role: str, **fields: Any) -> openai.CompletionRequest:
    body = orjson.dumps({"model": "m", "prompt": "twenty bytes at most", **fields})
    return parse_completion(body, "completions", SCORER.of(role))


@pytest.mark.parametrize("wanted", [0, 1])
def test_operators_may_have_a_short_text_scored(wanted: int) -> None:
    assert score("operator", prompt_logprobs=wanted).fields["prompt_logprobs"] == wanted


@pytest.mark.parametrize(
    ("role", "fields"),
    [
        ("user", {"prompt_logprobs": 0}),
        ("user", {"prompt_logprobs": 1}),
        ("operator", {"prompt_logprobs": 2}),
        ("operator", {"prompt_logprobs": True}),
        ("operator", {"prompt_logprobs": -1}),
        ("operator", {"prompt_logprobs": 0, "prompt": "twenty-one bytes are."}),
        ("operator", {"prompt_logprobs": 0, "prompt": ["a", "b"]}),
    ],
)
def test_nobody_else_and_nothing_longer_is_scored(role: str, fields: dict[str, Any]) -> None:
    with pytest.raises(BadRequest, match="prompt_logprobs"):
        score(role, **fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 5}, "n"),
        ({"n": 0}, "n"),
        ({"n": True}, "n"),
        ({"best_of": 99}, "best_of"),
        ({"top_logprobs": 6}, "top_logprobs"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": 3}, "stream_options"),
        ({"response_format": {"x": "y" * 300}}, "response_format"),
        ({"structured_outputs": {"regex": "a" * 300}}, "structured_outputs"),
        ({"response_format": "json"}, "response_format"),
        ({"structured_outputs": []}, "structured_outputs"),
        ({"tools": [{"x": "y" * 300}], "tool_choice": "required"}, "tools"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"echo": True, "logprobs": 0}, "echo"),
        ({"breakeven": {"knowledge": "x" * 129}}, "breakeven.knowledge"),
        ({"breakeven": {"knowledge": "a\nb"}}, "breakeven.knowledge"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages.0"),
        ({"messages": [{"role": "user", "content": 3}]}, "messages.0"),
        ({"model": ""}, "model"),
        ({"model": 3}, "model"),
        ({"breakeven": []}, "breakeven"),
        ({"breakeven": {"knowlege": "x"}}, "breakeven.knowlege"),
        ({"breakeven": {"top_k": 11}}, "top_k"),
        ({"breakeven": {"min_score": 2}}, "breakeven.min_score"),
        ({"breakeven": {"filter": []}}, "breakeven.filter"),
    ],
)
def test_bad_values_name_their_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file", None, "image_embeds"])
def test_parts_that_could_make_the_engine_fetch_are_refused(kind: str | None) -> None:
    part = {"type": kind, "image_url": {"url": "http://127.0.0.1/secret"}}
    with pytest.raises(BadRequest, match="text"):
        parse(messages=[{"role": "user", "content": [{"type": "text", "text": "see"}, part]}])


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"x"', b"\xff", b"[" * 5000, b'{"a":' * 3000])
def test_malformed_json_is_one_error(body: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_completion(body, "chat", LIMITS)
    assert caught.value.code == "invalid_json"


def test_text_completions_need_a_prompt_and_few_of_them() -> None:
    for prompt in (None, 3, ["a"] * 5):
        with pytest.raises(BadRequest):
            parse_completion(orjson.dumps({"model": "m", "prompt": prompt}), "completions", LIMITS)
    tokens = parse_completion(orjson.dumps({"model": "m", "prompt": list(range(500))}), "completions", LIMITS)
    assert tokens.fields["prompt"][-1] == 499


def test_system_prompt_goes_before_the_clients_own() -> None:
    assert openai.with_system(MESSAGES, "S") == [{"role": "system", "content": "S"}, *MESSAGES]
    own = [{"role": "system", "content": "mine"}, *MESSAGES]
    assert openai.with_system(own, "S")[0]["content"] == "S\n\nmine"
    assert own[0]["content"] == "mine"


def test_text_length_counts_parts_and_skips_empty() -> None:
    parts = {"role": "user", "content": [{"type": "text", "text": "abc"}]}
    assert openai.text_length([parts, {"role": "assistant", "content": None}, {"role": "user", "content": "de"}]) == 5


class Asked(dict[str, Any]):
    """A request that remembers which of its fields somebody looked at."""

    def __init__(self, fields: dict[str, Any]) -> None:
        super().__init__(fields)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def test_a_request_without_any_costly_field_need_not_be_looked_at() -> None:
    for name in COSTLY:
        fields = Asked({name: None, "model": "m"})
        check_costly(fields, LIMITS)
        assert fields.names <= COSTLY
        assert fields.names
