"""The gateway over HTTP, as OpenAI's own client sees it, on the simulated engine."""

import base64
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from openai.types.chat import ChatCompletionMessageParam

from tests.serving.gateways import Running, running, settings_for

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "rain gauge holds how much water"}]
OFF: list[ChatCompletionMessageParam] = [{"role": "user", "content": "xylophone quantum zebra"}]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings_for(tmp_path)) as started:
        yield started


@pytest.fixture
async def client(stack: Running) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0) as sdk:
        yield sdk


def extension(value: Any) -> dict[str, Any]:
    found: dict[str, Any] = value.model_extra["breakeven"]
    return found


async def test_chat_completion_carries_its_cost(client: openai.AsyncOpenAI) -> None:
    raw = await client.chat.completions.with_raw_response.create(model="plain", messages=ASK)
    answer = raw.parse()
    assert answer.choices[0].message.content
    cost = extension(answer)["cost"]
    assert raw.headers["x-breakeven-cost-usd"] == cost["allocation_usd"]
    assert float(cost["allocation_usd"]) >= float(cost["usage_usd"]) >= 0
    assert cost["basis"] == "simulated"
    assert cost["price"]["source"] == "test"
    assert extension(answer)["simulated"] is True
    assert answer.usage is not None
    hosted = answer.usage.prompt_tokens * 1 + answer.usage.completion_tokens * 4
    assert float(cost["hosted_equivalent_usd"]["hosted"]) == pytest.approx(hosted / 1e6)


async def test_retrieval_cites_and_shows_its_passages(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(model="books", messages=ASK)
    citation = (answer.choices[0].message.annotations or [])[0].model_dump()["file_citation"]
    passage = extension(answer)["retrieval"]["passages"][0]
    assert citation["filename"] == passage["source"] == "gauges.md"
    assert citation["passage_id"] == passage["id"]
    assert passage["end"] - passage["start"] == len(passage["text"])
    assert "forty millimetres" in passage["text"]
    assert extension(answer)["tokens"]["retrieved_estimate"] > 0


@pytest.mark.parametrize("usage", [False, True])
async def test_streams_end_with_citations_cost_and_usage_only_if_asked(client: openai.AsyncOpenAI, usage: bool) -> None:
    options: Any = {"stream_options": {"include_usage": True}} if usage else {}
    stream = await client.chat.completions.create(model="books", messages=ASK, stream=True, **options)
    chunks = [chunk async for chunk in stream]
    carrying = [chunk for chunk in chunks if chunk.choices]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in carrying).strip()
    assert carrying[-1].choices[0].finish_reason == "stop"
    assert extension(carrying[-1])["cost"]["price"]["id"] == "test-gpu"
    assert carrying[-2].choices[0].delta.model_extra["annotations"][0]["file_citation"]["filename"] == "gauges.md"
    assert [chunk.usage is not None for chunk in chunks if not chunk.choices] == ([True] if usage else [])


@pytest.mark.parametrize("stream", [False, True])
async def test_no_evidence_is_no_answer_and_no_engine(stack: Running, client: openai.AsyncOpenAI, stream: bool) -> None:
    engine: Any = stack.gateway.engine
    engine.ready = False  # an engine call would be a 503
    if stream:
        chunks = [
            chunk async for chunk in await client.chat.completions.create(model="books", messages=OFF, stream=True)
        ]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        finish, ours = chunks[-1].choices[0].finish_reason, extension(chunks[-1])
    else:
        whole = await client.chat.completions.create(model="books", messages=OFF)
        text = whole.choices[0].message.content or ""
        finish, ours = whole.choices[0].finish_reason, extension(whole)
    assert text == "Not in the books."
    assert finish == "stop"
    assert ours["abstained"] is True
    assert ours["cost"]["busy_seconds"] == 0
    assert ours["cost"]["host_seconds"] > 0  # the search was no gift


async def test_a_request_may_override_retrieval(client: openai.AsyncOpenAI) -> None:
    body = {"breakeven": {"knowledge": "books", "top_k": 1, "min_score": -1}}
    answer = await client.chat.completions.create(model="plain", messages=OFF, extra_body=body)
    assert len(extension(answer)["retrieval"]["passages"]) == 1
    filtered = {"breakeven": {"knowledge": "books", "min_score": -1, "filter": {"source": "other.md"}}}
    answer = await client.chat.completions.create(model="plain", messages=ASK, extra_body=filtered)
    assert extension(answer)["abstained"] is True


async def test_retrieval_also_works_with_tools(client: openai.AsyncOpenAI) -> None:
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    answer = await client.chat.completions.create(model="books", messages=ASK, tools=[tool])
    assert extension(answer)["retrieval"]["passages"]


async def test_served_defaults_give_way_to_the_client(client: openai.AsyncOpenAI) -> None:
    default = await client.chat.completions.create(model="polite", messages=ASK)
    asked = await client.chat.completions.create(model="polite", messages=ASK, max_completion_tokens=3)
    assert default.usage is not None
    assert asked.usage is not None
    assert (default.usage.completion_tokens, asked.usage.completion_tokens) == (5, 3)


@pytest.mark.parametrize("stream", [False, True])
async def test_text_completions(client: openai.AsyncOpenAI, stream: bool) -> None:
    if stream:
        pieces = [
            piece async for piece in await client.completions.create(model="plain", prompt="one two", stream=True)
        ]
        assert "".join(piece.choices[0].text for piece in pieces).startswith("one two")
        assert extension(pieces[-1])["cost"]
    else:
        whole = await client.completions.create(model="plain", prompt="one two")
        assert whole.choices[0].text.startswith("one two")


async def test_models_are_listed_and_described(client: openai.AsyncOpenAI) -> None:
    assert {model.id async for model in client.models.list()} == {"plain", "books", "polite", "hashing"}
    assert extension(await client.models.retrieve("books"))["knowledge"] == "books"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve("none/such")


async def test_embeddings_in_both_encodings(stack: Running, client: openai.AsyncOpenAI) -> None:
    model = stack.gateway.knowledge.embedding_model
    answer = await client.embeddings.create(model=model, input=["rain", "gauge"])
    floats = await client.embeddings.create(model=model, input="rain", encoding_format="float")
    assert answer.data[0].embedding == pytest.approx(floats.data[0].embedding)
    assert sum(value**2 for value in floats.data[0].embedding) == pytest.approx(1, abs=1e-5)
    raw = await client.embeddings.with_raw_response.create(model=model, input="rain", encoding_format="base64")
    encoded = raw.http_response.json()["data"][0]["embedding"]
    assert struct.unpack(f"<{len(floats.data[0].embedding)}f", base64.b64decode(encoded)) == pytest.approx(
        floats.data[0].embedding
    )
    with pytest.raises(openai.BadRequestError, match="tokens"):
        await client.embeddings.create(model=model, input="word " * 500)
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model="other", input="x")


async def test_langchain_embeds_with_the_endpoint(stack: Running) -> None:
    # Its length check would send token ids of OpenAI's own tokenizer, which mean nothing to another model.
    embeddings = OpenAIEmbeddings(
        model="hashing", base_url=f"{stack.url}/v1", api_key=lambda: "none", check_embedding_ctx_length=False
    )
    assert len((await embeddings.aembed_documents(["rain", "gauge"]))[1]) == 256


async def test_the_path_of_a_search_names_the_knowledge_base(client: openai.AsyncOpenAI) -> None:
    path = "/breakeven/knowledge/books/search"
    found = await client.post(path, body={"query": "rain gauge"}, cast_to=dict[str, Any])
    assert found["data"]
    with pytest.raises(openai.BadRequestError) as refused:
        await client.post(path, body={"query": "rain gauge", "knowledge": "other"}, cast_to=object)
    assert refused.value.param == "knowledge"


async def test_errors_are_openais(stack: Running, client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="none", messages=ASK)
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError) as long:
        await client.chat.completions.create(model="plain", messages=[{"role": "user", "content": "a " * 9000}])
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError, match="no knowledge base"):
        await client.chat.completions.create(
            model="plain", messages=ASK, extra_body={"breakeven": {"knowledge": "none"}}
        )
    with pytest.raises(openai.BadRequestError, match="chat/completions"):
        await client.completions.create(model="books", prompt="x")
    engine: Any = stack.gateway.engine
    engine.ready = False
    with pytest.raises(openai.InternalServerError) as down:
        await client.chat.completions.create(model="plain", messages=ASK)
    assert down.value.status_code == 503
    assert int(down.value.response.headers["retry-after"]) >= 1
