"""The two hot routes go past FastAPI; spelled in another way they go through it. Nobody may be able to tell."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import yarl

from serving.auth import EVERYONE
from serving.routes.hot import ENDPOINTS
from tests.serving.gateways import Running, running, settings_for
from tests.serving.test_upstream import Upstream, behind, chunked, plain

ASK: dict[str, Any] = {"model": "plain", "messages": [{"role": "user", "content": "rain"}]}
PROMPT: dict[str, Any] = {"model": "plain", "prompt": "rain"}
SPELLINGS = {"chat": ("chat/completions", "chat/%63ompletions"), "completions": ("completions", "%63ompletions")}


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings_for(tmp_path)) as started:
        yield started


async def call(stack: Running, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    url = yarl.URL(f"{stack.url}/v1/{path}", encoded=True)
    async with aiohttp.ClientSession() as http, http.post(url, data=body, headers=headers) as answer:
        return answer.status, dict(answer.headers), await answer.read()


def comparable(answer: tuple[int, dict[str, str], bytes]) -> Any:
    """Without what differs between any two requests."""
    status, given, body = answer
    headers = {name.lower(): value for name, value in given.items()}
    for name in ("x-request-id", "x-breakeven-cost-usd", "content-length", "date"):
        headers.pop(name, None)
    texts = [part.removeprefix(b"data: ") for part in body.split(b"\n\n") if part]
    parts = [orjson.loads(text) if text != b"[DONE]" else "done" for text in texts]
    for part in parts:
        if isinstance(part, dict):
            part.pop("created", None)
            part.pop("id", None)
            if "breakeven" in part:
                part["breakeven"] = sorted(part["breakeven"])
    return status, sorted(headers.items()), parts


BODIES = {
    "whole": ("chat", {**ASK}),
    "streamed": ("chat", {**ASK, "stream": True, "stream_options": {"include_usage": True}}),
    "text": ("completions", {**PROMPT}),
    "text, streamed": ("completions", {**PROMPT, "stream": True}),
    "from documents": ("chat", {**ASK, "model": "books", "messages": [{"role": "user", "content": "the rain gauge"}]}),
    "abstained": ("chat", {**ASK, "model": "books", "messages": [{"role": "user", "content": "zebras"}]}),
    "unknown model": ("chat", {**ASK, "model": "nobody"}),
    "no model": ("chat", {"messages": []}),
    "not offered": ("chat", {**ASK, "audio": {}, "modalities": ["audio"]}),
    "refused": ("completions", {**PROMPT, "use_beam_search": True}),
    "too deep": ("chat", None),
}


@pytest.mark.parametrize("name", BODIES)
async def test_both_ways_answer_the_same(stack: Running, name: str) -> None:
    endpoint, fields = BODIES[name]
    body = b"{" if fields is None else orjson.dumps(fields)
    hot, framework = [await call(stack, path, body) for path in SPELLINGS[endpoint]]
    assert comparable(hot) == comparable(framework)


@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer wrong"}, {"origin": "http://evil.example"}])
async def test_both_ways_refuse_the_same(stack: Running, headers: dict[str, str]) -> None:
    if "origin" not in headers:
        stack.gateway.keys.create("acme", [EVERYONE], "user")
    for paths in SPELLINGS.values():
        hot, framework = [await call(stack, path, orjson.dumps(ASK), **headers) for path in paths]
        assert comparable(hot) == comparable(framework)
        assert hot[0] in (401, 403)


async def test_both_ways_limit_the_body(stack: Running) -> None:
    for path in SPELLINGS["chat"]:
        assert (await call(stack, path, b"x" * 5_000_000))[0] == 413


def test_the_hot_paths_are_in_the_description() -> None:
    described = orjson.loads((Path(__file__).parents[2] / "tests" / "house" / "openapi.json").read_bytes())["paths"]
    for path in ENDPOINTS:
        assert "post" in described[path.decode()]


@dataclass
class Flood(Upstream):
    """A stream without an end."""

    written: int = 0
    closed: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = b"x" * 60_000
        event = b'data: {"choices":[{"index":0,"delta":{"content":"' + text + b'"},"finish_reason":null}]}\n\n'
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")).startswith(b"GET"):
                writer.write(plain("200 OK", b'{"data":[{"id":"base"}]}'))
            assert head
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            while True:
                writer.write(chunked(event))
                await writer.drain()
                self.written += len(event)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.closed += self.written > 0
        finally:
            writer.close()


async def test_a_client_that_does_not_read_stops_the_engine_and_its_hang_up_ends_it(tmp_path: Path) -> None:
    upstream = Flood()
    async with behind(upstream, tmp_path) as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]), limit=1024)
        body = orjson.dumps({**ASK, "stream": True})
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % len(body)
        writer.write(head + body)
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while upstream.written != before:  # until everything between is full
            before = upstream.written
            await asyncio.sleep(0.5)
        assert 0 < upstream.written < 50_000_000
        writer.transport.abort()
        for _ in range(100):
            if upstream.closed:
                break
            await asyncio.sleep(0.02)
        assert upstream.closed == 1
