"""`client.responses` as OpenAI's own client sees it, on the simulated engine."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import orjson
import pytest

from retrieval.passages import Passage
from serving.errors import UpstreamFailed
from serving.response_items import citations
from serving.response_stream import ResponseRelay
from tests.serving.tenants import QUESTION, Tenants, filled, tenants

FILE = "file-0123456789abcdef01234567"
PASSAGES = (
    Passage("p1", "k", "a.md", "A", "", "one", 0, 3, 0.5),
    Passage("p2", "k", f"{FILE}/b.md", "B", "", "two", 0, 3, 0.9),
)


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Tenants]:
    async with tenants(tmp_path) as started:
        yield started


def tool(*stores: str) -> Any:
    return {"type": "file_search", "vector_store_ids": list(stores)}


async def test_a_plain_response(both: Tenants) -> None:
    raw = await both.user.responses.with_raw_response.create(model="plain", input="hello there", max_output_tokens=4)
    answer = raw.parse()
    assert (answer.status, answer.output_text.split()) == ("completed", ["hello", "there"] * 2)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (2, 4)
    extension: Any = (answer.model_extra or {})["breakeven"]
    assert extension["tokens"]["completion"] == 4
    assert raw.headers["x-breakeven-cost-usd"] == extension["cost"]["allocation_usd"]
    assert answer.tools == []


async def test_a_response_searches_and_cites(both: Tenants) -> None:
    store, file = await filled(both.ours)
    answer = await both.user.responses.create(
        model="plain",
        input=QUESTION,
        instructions="Be brief.",
        tools=[tool(store)],
        include=["file_search_call.results"],
    )
    call, message = answer.output
    assert call.type == "file_search_call"
    assert (call.status, call.queries) == ("completed", [QUESTION])
    assert call.results is not None
    assert (call.results[0].file_id, call.results[0].filename) == (file, "kettle.md")
    assert "nine litres" in (call.results[0].text or "")
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    cited = message.content[0].annotations[0]
    assert cited.type == "file_citation"
    assert (cited.file_id, cited.filename) == (file, "kettle.md")
    assert cited.index <= len(answer.output_text)
    assert answer.instructions == "Be brief."
    assert answer.tools[0].type == "file_search"
    assert (answer.model_extra or {})["breakeven"]["tokens"]["retrieved_estimate"] > 0


async def test_results_are_shown_only_if_asked_for(both: Tenants) -> None:
    store, _ = await filled(both.ours)
    answer = await both.user.responses.create(model="plain", input=QUESTION, tools=[tool(store)])
    assert answer.output[0].type == "file_search_call"
    assert answer.output[0].results is None


async def test_a_streamed_response_has_the_same_items(both: Tenants) -> None:
    store, file = await filled(both.ours)
    async with both.user.responses.stream(model="plain", input=QUESTION, tools=[tool(store)]) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    raw: list[Any] = events
    kinds = [event.type for event in raw]
    searching = [f"response.file_search_call.{stage}" for stage in ("in_progress", "searching", "completed")]
    assert kinds[:3] == ["response.created", "response.in_progress", "response.output_item.added"]
    assert kinds[3:7] == [*searching, "response.output_item.done"]
    assert kinds[-1] == "response.completed"
    assert [event.sequence_number for event in raw] == list(range(len(raw)))
    assert {event.output_index for event in raw if event.type == "response.output_text.delta"} == {1}
    added = [event.annotation for event in raw if event.type == "response.output_text.annotation.added"]
    assert [each["file_id"] if isinstance(each, dict) else each.file_id for each in added] == [file]
    call, message = final.output
    assert call.type == "file_search_call"
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    annotation: Any = message.content[0].annotations[0]
    assert annotation.file_id == file
    assert final.usage is not None
    assert (final.model_extra or {})["breakeven"]["tokens"]["completion"] == final.usage.output_tokens


@pytest.mark.parametrize("stream", [False, True])
async def test_nothing_relevant_is_no_answer_and_no_engine(both: Tenants, stream: bool) -> None:
    store, _ = await filled(both.ours)
    engine: Any = both.stack.gateway.engine
    engine.ready = False  # an engine call would be a 503
    fields: Any = {"model": "plain", "input": "xylophone quantum zebra", "tools": [tool(store)]}
    if stream:
        async with both.user.responses.stream(**fields) as events:
            answer: Any = await events.get_final_response()
    else:
        answer = await both.user.responses.create(**fields)
    assert [each.type for each in answer.output] == ["file_search_call", "message"]
    assert "could not find" in answer.output_text
    assert answer.model_extra["breakeven"]["abstained"] is True
    assert answer.model_extra["breakeven"]["cost"]["busy_seconds"] == 0


async def test_a_served_model_brings_its_knowledge_and_prompt(both: Tenants) -> None:
    answer = await both.user.responses.create(model="books", input="rain gauge holds water")
    assert [each.type for each in answer.output] == ["message"]
    content: Any = answer.output[0]
    assert content.content[0].annotations[0].filename == "gauges.md"
    polite = await both.user.responses.create(model="polite", input="hello")
    assert polite.usage is not None
    assert polite.usage.output_tokens == 5
    assert polite.output_text.startswith("Be polite. hello")


async def test_earlier_output_can_be_sent_back(both: Tenants) -> None:
    store, _ = await filled(both.ours)
    first = await both.user.responses.create(model="plain", input=QUESTION, tools=[tool(store)])
    items: Any = [
        {"role": "user", "content": QUESTION},
        *(each.model_dump(exclude_none=True) for each in first.output),
        {"role": "user", "content": [{"type": "input_text", "text": QUESTION}]},
    ]
    again = await both.user.responses.create(model="plain", input=items, tools=[tool(store)])
    assert again.output[0].type == "file_search_call"
    assert again.output[0].queries == [QUESTION]


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"previous_response_id": "resp_1"}, 501, "previous_response_id"),
        ({"background": True}, 501, "background"),
        ({"conversation": "conv_1"}, 501, "conversation"),
        ({"tools": [{"type": "web_search"}]}, 501, "tools"),
        ({"input": []}, 400, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, 400, "input.0"),
        ({"instructions": 3}, 400, "instructions"),
        ({"model": "nobody"}, 404, "model"),
        ({"extra_body": {"priority": 1}}, 400, "priority"),
    ],
)
async def test_what_cannot_be_done_says_so(both: Tenants, fields: Any, status: int, param: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await both.user.responses.create(**{"model": "plain", "input": "hello", **fields})
    assert (refused.value.status_code, refused.value.param) == (status, param)


def test_citations_stand_where_the_text_has_them() -> None:
    text = "It is so [2], or so [9], and [1]."
    assert [(each["file_id"], each["index"]) for each in citations(text, PASSAGES)] == [
        (FILE, text.index("[2]") + 3),
        (citations("", PASSAGES[:1])[0]["file_id"], text.index("[1]") + 3),
    ]
    assert [each["index"] for each in citations("no mark", PASSAGES)] == [7, 7]
    assert citations("no passage [1]", ()) == []


def event(value: Any) -> bytes:
    return b"event: x\ndata: " + orjson.dumps(value) + b"\n\n"


def test_a_stream_in_pieces_of_any_size_is_the_same() -> None:
    data = event({"type": "response.output_text.delta", "delta": "a", "output_index": 0, "sequence_number": 7})
    data += event({"type": "response.completed", "response": {"status": "completed", "output": []}})
    whole, split = (ResponseRelay((), (), {}) for _ in range(2))
    expected = whole.feed(data) + whole.finish({})
    assert b"".join(split.feed(data[at : at + 1]) for at in range(len(data))) + split.finish({}) == expected
    assert orjson.loads(expected.split(b"\n")[1][6:])["sequence_number"] == 0


def test_a_stream_without_its_last_event_is_broken() -> None:
    relay = ResponseRelay((), (), {})
    relay.feed(event({"type": "response.output_text.delta", "delta": "a", "output_index": 0}))
    with pytest.raises(UpstreamFailed):
        relay.check_complete()
    assert relay.tokens().completion == 1
    with pytest.raises(UpstreamFailed):
        relay.feed(event({"error": {"message": "out of memory", "code": 500}}))
