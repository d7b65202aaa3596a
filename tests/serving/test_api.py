"""The gateway over HTTP, as OpenAI's own client sees it, on the simulated engine."""

import asyncio
import base64
import json
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from langchain_openai import OpenAIEmbeddings
from openai.types.chat import ChatCompletionMessageParam

from serving.auth import EVERYONE
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
    assert float(ours["cost"]["usage_usd"]) == 0


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


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def _parts(*parts: Any) -> Any:
    return [{"role": "user", "content": [{"type": "text", "text": "rain"}, *parts]}]


def _body(**fields: Any) -> bytes:
    return json.dumps({"model": "plain", "messages": ASK, **fields}).encode()


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"x" * 5_000_000, 413),
        ("GET", "/v1/chat/completions", b"", 405),
        ("GET", "/v1/nothing", b"", 404),
        ("POST", "/v1/load_lora_adapter", b"{}", 404),
        ("POST", "/v1/embeddings", b'{"model": "hashing"}', 400),
        ("POST", "/v1/breakeven/knowledge/books/search", b'{"query": ""}', 400),
        ("POST", "/v1/breakeven/knowledge/books/search", b'{"query": "x", "topk": 3}', 400),
        ("PUT", "/v1/breakeven/knowledge/books/documents/a.pdf", b"not a pdf", 422),
        ("DELETE", "/v1/breakeven/knowledge/books/documents/none.md", b"", 404),
        ("PUT", "/v1/breakeven/knowledge/books/documents/..%2Fup.md", b"# x", 400),
        ("PUT", "/v1/breakeven/knowledge/books/documents//etc/x.md", b"# x", 400),
        ("PUT", "/v1/breakeven/knowledge/books/documents/a%00b.md", b"# x", 400),
        ("POST", "/v1/chat/completions", _body(metadata=_deep(300)), 400),
        ("POST", "/v1/chat/completions", _body(response_format=_deep(300)), 400),
        ("POST", "/v1/chat/completions", _body(model="books", messages=_parts({"type": "text", "text": 5})), 400),
    ],
)
async def test_bad_calls_get_error_objects(stack: Running, method: str, path: str, body: bytes, status: int) -> None:
    async with aiohttp.ClientSession() as http, http.request(method, stack.url + path, data=body) as response:
        assert response.status == status
        error = (await response.json())["error"]
        assert error["message"]
        assert "Traceback" not in error["message"]


async def test_a_body_without_a_length_is_limited_too(stack: Running) -> None:
    port = int(stack.url.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    piece = b"%x\r\n%s\r\n" % (100_000, b"x" * 100_000)
    sent = 0
    answered = asyncio.ensure_future(reader.readline())
    while not answered.done() and sent < 100_000_000:
        writer.write(piece)
        sent += len(piece)
        await asyncio.sleep(0.001)
    assert b"413" in await answered
    assert sent < 20_000_000
    writer.close()


async def test_documents_are_managed_by_operators_and_scoped(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path)) as stack, aiohttp.ClientSession() as http:
        keys = stack.gateway.keys
        operator = keys.create("acme", [EVERYONE, "legal"], "operator")
        user = keys.create("acme", [EVERYONE], "user")
        stranger = keys.create("other", [EVERYONE, "legal"], "user")
        base = f"{stack.url}/v1/breakeven/knowledge/cases"

        async def call(method: str, path: str, key: str, **options: Any) -> tuple[int, Any]:
            headers = {"authorization": f"Bearer {key}"}
            async with http.request(method, base + path, headers=headers, **options) as response:
                return response.status, await response.json()

        put = {"data": b"# Case\n\nThe verdict was seven years.\n", "params": {"group": "legal"}}
        assert (await call("PUT", "/documents/case.md", user, **put))[0] == 403
        assert (await call("PUT", "/documents/case.md", operator, **put))[1]["status"] == "added"
        assert (await call("PUT", "/documents/case.md", operator, **put))[1]["status"] == "unchanged"
        search = {"json": {"query": "the verdict was seven years"}}
        assert len((await call("POST", "/search", operator, **search))[1]["data"]) == 1
        assert (await call("POST", "/search", user, **search))[1]["data"] == []
        assert (await call("POST", "/search", stranger, **search))[0] == 404
        status, listed = await call("GET", "/documents", operator)
        assert (status, [each["source"] for each in listed["data"]]) == (200, ["case.md"])
        assert (await call("DELETE", "/documents/case.md", operator))[0] == 200
        assert (await call("POST", "/search", operator, **search))[1]["data"] == []


async def test_with_keys_nothing_is_open_but_health_and_metrics(stack: Running) -> None:
    stack.gateway.keys.create("acme", [EVERYONE], "user")
    async with aiohttp.ClientSession() as http:
        for path, status in (("/livez", 200), ("/readyz", 200), ("/metrics", 200), ("/v1/models", 401)):
            async with http.get(stack.url + path) as response:
                assert response.status == status, path


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Host", "evil.example:8000", 403),
        ("Host", "localhost:1", 200),
        ("Host", "[::1]:1", 200),
        ("Origin", "http://evil.example", 403),
        ("Origin", "null", 403),
        ("Origin", "http://localhost:3000", 200),
    ],
)
async def test_without_keys_a_web_page_from_elsewhere_is_refused(
    stack: Running, header: str, value: str, status: int
) -> None:
    async with aiohttp.ClientSession() as http:
        async with http.get(f"{stack.url}/v1/models", headers={header: value}) as response:
            assert response.status == status
        bearer = stack.gateway.keys.create("acme", [EVERYONE], "user")
        headers = {header: value, "authorization": f"Bearer {bearer}"}
        async with http.get(f"{stack.url}/v1/models", headers=headers) as response:
            assert response.status == 200


async def test_not_ready_until_the_documents_are_in(stack: Running) -> None:
    stack.gateway.documents_in.clear()
    async with aiohttp.ClientSession() as http, http.get(f"{stack.url}/readyz") as response:
        assert (response.status, (await response.json())["checks"]["documents"]) == (503, False)


async def test_a_stream_that_the_gateways_end_cuts_says_so(tmp_path: Path) -> None:
    slow = {"simulated_itl_s": 0.5, "simulated_tokens": 100}
    body = {"model": "plain", "messages": ASK, "stream": True}
    async with aiohttp.ClientSession() as http:
        async with running(settings_for(tmp_path, engine=slow)) as stack:
            response = await http.post(f"{stack.url}/v1/chat/completions", json=body)
            assert await response.content.readany()
        rest = await response.content.read()
    assert b"shutting_down" in rest
    assert b"[DONE]" not in rest


async def test_not_ready_while_the_engine_is_down(stack: Running) -> None:
    engine: Any = stack.gateway.engine
    engine.ready = False
    async with aiohttp.ClientSession() as http, http.get(f"{stack.url}/readyz") as response:
        assert response.status == 503
        assert (await response.json())["checks"] == {"engine": False, "store": True, "documents": True}


async def test_a_client_that_hangs_up_frees_the_engine(tmp_path: Path) -> None:
    slow = {"simulated_ttft_s": 0.5, "simulated_itl_s": 0.5, "simulated_tokens": 100}
    async with running(settings_for(tmp_path, engine=slow)) as stack:
        engine: Any = stack.gateway.engine
        body = {"model": "plain", "messages": ASK}
        for stream, wait in ((False, 0.2), (True, 0.2), (True, 0.8)):
            async with aiohttp.ClientSession() as http:
                call = asyncio.ensure_future(_read_all(http, stack.url, {**body, "stream": stream}))
                await asyncio.sleep(wait)
                assert engine.running == 1
                call.cancel()
            for _ in range(100):
                if engine.running == 0:
                    break
                await asyncio.sleep(0.02)
            assert engine.running == 0, (stream, wait)
        text = stack.gateway.metrics.exposition().decode()
        assert 'breakeven_requests_total{endpoint="chat",model="plain",outcome="cancelled"} 3.0' in text


async def _read_all(http: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> bytes:
    async with http.post(f"{url}/v1/chat/completions", json=body) as response:
        return await response.read()
