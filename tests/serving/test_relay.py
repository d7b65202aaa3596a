"""The stream relay: bytes through, the end held back, and never `[DONE]` for a stream that broke."""

from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval.citations import Cited
from serving.errors import GatewayError, UpstreamFailed
from serving.relay import Relay, tokens_of

HEAD = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}
DONE = b"data: [DONE]\n\n"


def event(choices: list[dict[str, Any]], **extra: Any) -> bytes:
    return b"data: " + orjson.dumps({**HEAD, "choices": choices, **extra}) + b"\n\n"


def delta(text: str, index: int = 0, finish: str | None = None) -> bytes:
    return event([{"index": index, "delta": {"content": text}, "finish_reason": finish}])


TRICKY = 'say "finish_reason":"stop" and {"error" and "choices":[] and data: [DONE]'
STREAM = delta("a") + delta(TRICKY) + delta("end", finish="stop") + event([], usage=USAGE) + DONE


def parsed(data: bytes) -> list[Any]:
    events = [part.removeprefix(b"data: ") for part in data.split(b"\n\n") if part]
    return [part.decode() if part == b"[DONE]" else orjson.loads(part) for part in events]


def run(pieces: list[bytes], **options: Any) -> tuple[Relay, bytes]:
    relay = Relay(**{"keep_usage": False, **options})
    return relay, b"".join(relay.feed(piece) for piece in pieces)


def text_of(events: list[Any], index: int = 0) -> str:
    choices = [choice for each in events if each != "[DONE]" for choice in each["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices if choice["index"] == index)


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_any_split_gives_the_same_stream(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    relay, out = run([STREAM[start:end] for start, end in pairwise(edges)])
    relay.check_complete()
    events = parsed(out + relay.finish({"cost": 1}))
    assert text_of(events) == f"a{TRICKY}end"
    assert events[-1] == "[DONE]"
    assert events[-2]["breakeven"] == {"cost": 1}
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert relay.tokens().completion == 3


def test_a_cut_at_any_byte_is_an_error_and_never_done() -> None:
    for length in range(len(STREAM)):
        relay, out = run([STREAM[:length]])
        assert b"data: [DONE]\n" not in out, length
        with pytest.raises(UpstreamFailed):
            relay.check_complete()


def test_tokens_of_a_broken_stream_are_estimated_from_its_events() -> None:
    relay, _ = run([delta("a"), delta("b")])
    assert relay.tokens().estimated
    assert relay.tokens().completion == 2


@pytest.mark.parametrize("keep", [True, False])
def test_the_usage_event_is_kept_only_if_asked_for(keep: bool) -> None:
    relay, out = run([STREAM], keep_usage=keep)
    events = parsed(out + relay.finish({}))
    assert [each["usage"] for each in events[:-1] if "usage" in each] == ([USAGE] if keep else [])


def test_usage_on_every_chunk_is_not_mistaken_for_the_last() -> None:
    running = event([{"index": 0, "delta": {"content": "a"}, "finish_reason": None}], usage=USAGE)
    relay, out = run([running, STREAM])
    relay.check_complete()
    assert text_of(parsed(out + relay.finish({}))) == f"aa{TRICKY}end"


def test_citations_ride_on_the_last_delta_before_the_finish() -> None:
    relay, out = run([STREAM], annotations=[cited(1)])
    events = parsed(out + relay.finish({}))
    before, finish = events[-3], events[-2]
    assert before["choices"][0]["delta"] == {"content": "end", "annotations": [cited(1)]}
    assert before["choices"][0]["finish_reason"] is None
    assert finish["choices"][0]["delta"] == {}
    assert finish["choices"][0]["finish_reason"] == "stop"


def cited(number: int) -> dict[str, Any]:
    return {"type": "file_citation", "file_citation": {"number": number}}


@given(cuts=st.lists(st.integers(0, 400), max_size=8))
def test_citations_are_read_from_the_text_of_each_choice(cuts: list[int]) -> None:
    said = delta("As [") + delta("1", 1) + delta("2") + delta("] says, not [") + delta("7") + delta("].", finish="stop")
    stream = said + delta("[", 1) + delta("]", 1, "stop") + event([], usage=USAGE) + DONE
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    relay, out = run([stream[a:b] for a, b in pairwise(edges)], annotations=[cited(1), cited(2)])
    events = parsed(out + relay.finish({}))
    assert text_of(events) == "As [2] says, not [7]."  # never altered
    assert text_of(events, 1) == "1[]"
    assert relay.cited() == Cited((2,), (7,))
    carried = {
        choice["index"]: [each["file_citation"] for each in choice["delta"]["annotations"]]
        for each in events[:-1]
        for choice in each["choices"]
        if "annotations" in choice["delta"]
    }
    assert carried == {0: [{"number": 2, "cited": True}, {"number": 1}], 1: [{"number": 1}, {"number": 2}]}


def test_without_passages_the_text_is_not_read() -> None:
    relay, _ = run([delta("[1]") + STREAM])
    assert relay.cited() == Cited()


def test_every_choice_finishes_once_and_only_the_last_carries_the_cost() -> None:
    stream = (
        delta("a", 0) + delta("b", 1) + delta("A", 0, "stop") + delta("B", 1, "length") + event([], usage=USAGE) + DONE
    )
    relay, out = run([stream], annotations=[cited(1)])
    events = parsed(out + relay.finish({"cost": 2}))
    finishes = [each for each in events[:-1] if each["choices"] and each["choices"][0].get("finish_reason")]
    assert [each["choices"][0]["index"] for each in finishes] == [0, 1]
    assert [each.get("breakeven") for each in finishes] == [None, {"cost": 2}]
    assert (text_of(events, 0), text_of(events, 1)) == ("aA", "bB")
    assert sum("annotations" in choice["delta"] for each in events[:-1] for choice in each["choices"]) == 2


def test_the_engines_error_event_is_an_error_even_with_done_behind_it() -> None:
    error = b'data: {"error": {"message": "out of memory", "type": "InternalServerError", "code": 500}}\n\n'
    relay, out = run([delta("a") + error + DONE])
    assert b"out of memory" not in out
    with pytest.raises(GatewayError, match="out of memory"):
        relay.check_complete()


NONE: list[object] = [
    None,
    {},
    {"prompt_tokens": None},
    {"prompt_tokens_details": None},
    {"prompt_tokens_details": [1]},
]


@pytest.mark.parametrize("usage", [*NONE, {"prompt_tokens": "7"}, {"prompt_tokens": True}, {"prompt_tokens": -7}])
def test_absent_counts_are_zero(usage: object) -> None:
    assert tokens_of(usage).prompt == 0
