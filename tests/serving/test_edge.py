"""The HTTP edge: bad calls, strangers, readiness, clients that leave and a gateway that stops."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yarl
from uvicorn.server import ServerState

from serving.app import create_app, http_config
from serving.auth import EVERYONE
from serving.listening import Server
from serving.routes.hot import HotProtocol
from tests.serving.gateways import Running, running, settings_for

ASK: Any = [{"role": "user", "content": "rain gauge holds how much water"}]


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings_for(tmp_path)) as started:
        yield started


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
        ("PUT", "/v1/chat/completions", b"", 405),
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
        # A list, where a text is looked up.
        ("POST", "/v1/chat/completions", _body(messages=_parts({"type": []})), 400),
        ("POST", "/v1/chat/completions", _body(messages=[{"role": [], "content": "x"}]), 400),
        ("POST", "/v1/responses", _body(input="x", tools=[{"type": []}]), 501),
        ("POST", "/v1/responses", _body(input=[{"role": "user", "content": [{"type": []}]}]), 400),
        ("POST", "/v1/vector_stores/books/search", b'{"query": "x", "filters": {"type": []}}', 400),
        ("POST", "/v1/vector_stores/books/search", b'{"query": "x", "ranking_options": {"ranker": []}}', 400),
        ("POST", "/v1/breakeven/adapters/none/rollback", b"{}", 404),
        ("POST", "/v1/breakeven/adapters/none/promote", b'{"version": "1"}', 404),
        ("POST", "/v1/responses", _body(input="x", text=_deep(300)), 400),
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


async def test_with_keys_nothing_is_open_but_health(stack: Running) -> None:
    stack.gateway.keys.create("acme", [EVERYONE], "user")
    async with aiohttp.ClientSession() as http:
        expected = {"/livez": 200, "/readyz": 200, "/metrics": 401, "/version": 200, "/v1/models": 401}
        for path, status in expected.items():
            async with http.get(stack.url + path) as response:
                assert response.status == status, path


async def test_metrics_name_tenants_and_need_the_scrapers_token_or_an_operators_key(tmp_path: Path) -> None:
    token = "a-token-for-prometheus"
    settings = settings_for(tmp_path, server={"metrics_token": token})
    async with running(settings) as found, aiohttp.ClientSession() as http:

        async def scrape(path: str = "/metrics", **headers: str) -> tuple[int, str]:
            async with http.get(found.url + path, headers=headers) as response:
                return response.status, await response.text()

        assert (await scrape())[0] == 200  # without any key there are no tenants to name
        operator = found.gateway.keys.create("acme", [EVERYONE], "operator")
        user = found.gateway.keys.create("acme", [EVERYONE], "user")
        status, said = await scrape()
        assert (status, "scrape_config" in said) == (401, True)
        for wrong, expected in ((token + "x", 401), (token[:-1], 401), ("", 401), ("é", 401), (user, 403)):
            assert (await scrape(Authorization=f"Bearer {wrong}"))[0] == expected, wrong
        for right in (token, operator):
            assert (await scrape(Authorization=f"Bearer {right}"))[0] == 200
        assert (await scrape("/v1/models", Authorization=f"Bearer {token}"))[0] == 401


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("Host", "evil.example:8000", 403),
        ("Host", "localhost:1", 200),
        ("Host", "[::1]:1", 200),
        ("Host", "[", 403),
        ("Origin", "http://[", 403),
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


async def test_a_fault_of_ours_says_that_it_ends_the_connection() -> None:
    app, settings = create_app(), Server.model_validate({})

    async def fail() -> None:
        raise RuntimeError("a fault")

    app.add_api_route("/fault", fail)
    config = http_config(app, settings)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: HotProtocol(config, ServerState(), {}), "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/fault"
    async with aiohttp.ClientSession() as http:
        for _ in range(3):
            async with http.get(url) as response:
                assert (response.status, response.headers["connection"]) == (500, "close")
    server.close()


async def test_not_ready_until_the_documents_are_in(stack: Running) -> None:
    stack.gateway.documents_in.clear()
    async with aiohttp.ClientSession() as http, http.get(f"{stack.url}/readyz") as response:
        assert (response.status, (await response.json())["checks"]["documents"]) == (503, False)


async def test_a_stream_that_the_gateways_end_cuts_says_so(tmp_path: Path) -> None:
    slow = {"simulated_itl_s": 0.5, "simulated_tokens": 100}
    body = {"model": "plain", "messages": ASK, "stream": True}
    received: list[bytes] = []

    async def read(response: aiohttp.ClientResponse) -> None:
        with suppress(aiohttp.ClientPayloadError):  # the connection ends without the end of the body, as it must
            while piece := await response.content.readany():
                received.append(piece)

    async with aiohttp.ClientSession() as http:
        async with running(settings_for(tmp_path, engine=slow)) as stack:
            reading = asyncio.ensure_future(read(await http.post(f"{stack.url}/v1/chat/completions", json=body)))
            await asyncio.sleep(0.7)
        await reading
    assert b"shutting_down" in b"".join(received)
    assert b"[DONE]" not in b"".join(received)


@pytest.mark.parametrize("path", ["chat/completions", "chat/%63ompletions", "responses"])
async def test_an_answer_that_the_gateways_end_cuts_is_a_503(tmp_path: Path, path: str) -> None:
    body = {"model": "plain", "messages": ASK, "input": "x"}
    async with aiohttp.ClientSession() as http:
        async with running(settings_for(tmp_path, engine={"simulated_ttft_s": 30}, server={"shutdown_s": 0})) as stack:
            asking = asyncio.ensure_future(http.post(yarl.URL(f"{stack.url}/v1/{path}", encoded=True), json=body))
            await asyncio.sleep(0.3)
        async with await asking as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (503, "shutting_down")


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
