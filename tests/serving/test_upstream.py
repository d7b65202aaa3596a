"""A vLLM that breaks: every failure becomes an explicit error, and nothing broken is recorded as a success."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import openai
import orjson
import pytest

from serving.engine.protocol import EngineFailed
from serving.engine.vllm import VllmClient
from serving.sections import Engine as EngineSettings
from tests.serving.gateways import Running, running, settings_for

CHUNK = orjson.dumps(
    {
        "id": "c",
        "created": 1,
        "model": "base",
        "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}],
    }
)
LAST = CHUNK.replace(b'"finish_reason":null', b'"finish_reason":"stop"')
USAGE = orjson.dumps({"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 2}})
EVENTS = [b"data: " + each + b"\n\n" for each in (CHUNK, LAST, USAGE)] + [b"data: [DONE]\n\n"]
STREAM = b"".join(EVENTS)
WHOLE = orjson.dumps(
    {
        "id": "c",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 2, "completion_tokens": 2},
    }
)
OK = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def plain(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@dataclass
class Upstream:
    """A vLLM made of bytes: health and model list are right, completions are whatever the test says."""

    answer: bytes = OK + chunked(STREAM) + b"0\r\n\r\n"
    stall: bool = False
    hang_up: bool = True
    healthy: bool = True
    refusals: int = 0  # of the next questions for its health
    unlisted: int = 0  # of the next questions for its models
    requests: list[bytes] = field(default_factory=list)
    open: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.lower().split(b"\r\n")
                        if line.startswith(b"content-length:")
                    ),
                    0,
                )
                body = await reader.readexactly(length)
                if head.startswith(b"GET"):
                    listed = b'{"data":[{"id":"base"}]}'
                    if b" /v1/models " in head and self.unlisted:
                        self.unlisted -= 1
                        writer.write(plain("503 Later", b"no healthy upstream"))
                        continue
                    well, self.refusals = self.healthy and not self.refusals, max(0, self.refusals - 1)
                    writer.write(plain("200 OK" if well else "503 Down", listed))
                    continue
                self.requests.append(body)
                self.open += 1
                writer.write(self.answer)
                await writer.drain()
                if self.stall:
                    await reader.read()
                self.open -= 1
                if self.hang_up:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def behind(upstream: Upstream, tmp_path: Path, **engine: Any) -> AsyncIterator[Running]:
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    settings = settings_for(tmp_path, engine={"kind": "vllm", "url": url, "model": "base", **engine})
    async with running(settings) as stack:
        yield stack
    server.close()


async def ask(stack: Running, *, stream: bool) -> tuple[int, bytes]:
    body = {"model": "plain", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{stack.url}/v1/chat/completions", json=body) as response,
    ):
        return response.status, await response.read()


def outcomes(stack: Running) -> dict[str, float]:
    lines = stack.gateway.metrics.exposition().decode().splitlines()
    found = (line.split("outcome=")[1].split('"') for line in lines if line.startswith("breakeven_requests_total"))
    return {name: float(rest.strip("} ")) for _, name, rest in found if float(rest.strip("} "))}


async def test_a_whole_stream_is_a_success(tmp_path: Path) -> None:
    async with behind(Upstream(), tmp_path) as stack:
        status, body = await ask(stack, stream=True)
        assert status == 200
        assert body.endswith(b"data: [DONE]\n\n")
        assert outcomes(stack) == {"complete": 1}


@pytest.mark.parametrize("usage", [b'{"prompt_tokens":"2"}', b'{"completion_tokens":2.0}', b'{"prompt_tokens":[2]}'])
async def test_counts_that_are_none_cost_nobody_an_answer(tmp_path: Path, usage: bytes) -> None:
    body = plain("200 OK", WHOLE[: WHOLE.index(b'{"prompt_tokens"')] + usage + b"}")
    async with behind(Upstream(body), tmp_path) as stack:
        assert ((await ask(stack, stream=False))[0], outcomes(stack)) == (200, {"complete": 1})


END = b"0\r\n\r\n"
ERROR = b'data: {"error": {"message": "boom"}}\n\ndata: [DONE]\n\n'
CUTS = {
    **{f"after {count} events, clean end": OK + chunked(b"".join(EVENTS[:count])) + END for count in (1, 2, 3)},
    **{f"after {count} events, connection lost": OK + chunked(b"".join(EVENTS[:count])) for count in (1, 2, 3)},
    "inside an event": OK + chunked(STREAM[:40]) + END,
    "inside a chunk": OK + chunked(STREAM)[:60],
    "without any event": OK + END,
    "given up, usage and [DONE]": OK + chunked(STREAM.replace(b'"stop"', b'"abort"')) + END,
    "an event that is no JSON": OK + chunked(EVENTS[0] + EVENTS[1][:-9] + b"\n\n" + STREAM) + END,
    "an event of another kind": OK + chunked(EVENTS[0] + b'data: ["finish_reason":"stop"]\n\n' + STREAM) + END,
    "an event without choices": OK + chunked(EVENTS[0] + b'data: {"finish_reason":"stop"}\n\n' + STREAM) + END,
    "an error event and [DONE]": OK + chunked(ERROR) + END,
}


@pytest.mark.parametrize("name", CUTS)
async def test_a_cut_stream_ends_in_an_error_event(tmp_path: Path, name: str) -> None:
    async with behind(Upstream(CUTS[name]), tmp_path) as stack:
        status, body = await ask(stack, stream=True)
        assert status == 200
        assert b"[DONE]" not in body, name
        last = orjson.loads(body.strip().split(b"\n\n")[-1].removeprefix(b"data: "))
        assert last["error"]["message"]
        assert outcomes(stack) == {"error": 1}
        # OpenAI's own client raises, rather than taking the pieces for an answer.
        async with openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="x", max_retries=0) as sdk:
            with pytest.raises(openai.APIError):
                ask_again: Any = {"role": "user", "content": "x"}
                async for _ in await sdk.chat.completions.create(model="plain", messages=[ask_again], stream=True):
                    pass


async def test_what_came_before_a_stream_could_not_be_read_is_counted(tmp_path: Path) -> None:
    async with behind(Upstream(CUTS["an event that is no JSON"]), tmp_path) as stack:
        await ask(stack, stream=True)
        assert b'breakeven_tokens_total{kind="completion",model="plain"} 1.0' in stack.gateway.metrics.exposition()


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (plain("200 OK", WHOLE)[:-20], 502, "engine_broke_off"),
        (b"", 502, "engine_broke_off"),
        (plain("200 OK", WHOLE.replace(b'"stop"', b'"abort"')), 502, "engine_broke_off"),
        (plain("200 OK", b"not json"), 502, "engine_failed"),
        (plain("200 OK", b"[]"), 502, "engine_failed"),
        (plain("200 OK", b'{"usage":{}}'), 502, "engine_failed"),
        (plain("500 Oops", b"Internal Server Error"), 502, "engine_failed"),
        (plain("401 No", b'{"error":"Unauthorized"}'), 502, "engine_failed"),
        (plain("503 Busy", b"{}"), 503, "engine_unavailable"),
        (plain("400 Bad", b'{"error":{"message":"maximum context length"}}'), 400, "context_length_exceeded"),
    ],
)
async def test_a_broken_answer_is_an_error_status(tmp_path: Path, answer: bytes, status: int, code: str) -> None:
    async with behind(Upstream(answer), tmp_path) as stack:
        got, body = await ask(stack, stream=False)
        assert (got, orjson.loads(body)["error"]["code"]) == (status, code)
        assert outcomes(stack) == {"error": 1}


@pytest.mark.parametrize("stream", [False, True])
async def test_silence_is_a_timeout_and_frees_the_connection(tmp_path: Path, stream: bool) -> None:
    upstream = Upstream(OK + chunked(EVENTS[0]) if stream else b"", stall=True)
    async with behind(upstream, tmp_path, idle_timeout_s=0.3, request_timeout_s=0.5) as stack:
        status, body = await ask(stack, stream=stream)
        assert status == (200 if stream else 504)
        assert (
            orjson.loads(body.strip().split(b"\n\n")[-1].removeprefix(b"data: "))["error"]["code"] == "engine_timeout"
        )
        await asyncio.sleep(0.1)
        assert upstream.open == 0


async def test_a_kept_alive_connection_that_was_closed_is_not_an_error(tmp_path: Path) -> None:
    upstream = Upstream(plain("200 OK", WHOLE))
    async with behind(upstream, tmp_path) as stack:
        for _ in range(3):
            assert (await ask(stack, stream=False))[0] == 200
        assert outcomes(stack) == {"complete": 3}


async def test_an_engine_that_goes_away_is_503_and_comes_back(tmp_path: Path) -> None:
    upstream = Upstream(plain("200 OK", WHOLE))
    async with behind(upstream, tmp_path) as stack:
        upstream.healthy = False
        await _until(lambda: not stack.gateway.engine.ready)
        assert (await ask(stack, stream=False))[0] == 503
        upstream.healthy = True
        await _until(lambda: stack.gateway.engine.ready)
        assert (await ask(stack, stream=False))[0] == 200


async def test_one_dead_engine_behind_a_router_is_not_all_of_them(tmp_path: Path) -> None:
    upstream = Upstream(plain("500 Dead", b'{"error":{"message":"EngineCore encountered an issue"}}'))
    async with behind(upstream, tmp_path) as stack:
        upstream.refusals = 1  # of the look that a fault makes
        assert (await ask(stack, stream=False))[0] == 502
        assert stack.gateway.engine.ready
        upstream.refusals = 1  # of the look of every second
        for _ in range(30):
            await asyncio.sleep(0.05)
            assert stack.gateway.engine.ready
        assert upstream.refusals == 0


async def test_a_fault_of_a_dying_engine_is_503_and_not_the_requests(tmp_path: Path) -> None:
    upstream = Upstream(plain("500 Dead", b'{"error":{"message":"EngineCore encountered an issue"}}'))
    async with behind(upstream, tmp_path) as stack:
        upstream.healthy = False
        status, body = await ask(stack, stream=False)
        assert (status, orjson.loads(body)["error"]["code"]) == (503, "engine_unavailable")
        assert not stack.gateway.engine.ready


async def test_the_engine_gets_our_name_for_the_model_and_usage_is_always_asked_for(tmp_path: Path) -> None:
    upstream = Upstream()
    async with behind(upstream, tmp_path) as stack:
        await ask(stack, stream=True)
        sent = orjson.loads(upstream.requests[0])
        assert sent["model"] == "base"
        assert sent["stream_options"] == {"include_usage": True}


async def test_a_router_that_knows_no_engine_yet_is_asked_again(tmp_path: Path) -> None:
    upstream = Upstream(plain("200 OK", WHOLE), unlisted=1)
    async with behind(upstream, tmp_path) as stack:
        assert (await ask(stack, stream=False))[0] == 200
        assert upstream.unlisted == 0


async def test_an_external_engine_that_never_answers_ends_the_start() -> None:
    settings = EngineSettings.model_validate({"url": "http://127.0.0.1:9", "startup_timeout_s": 0.1})
    engine = VllmClient(settings, "http://127.0.0.1:9", None)
    with pytest.raises(EngineFailed, match=r"engine\.url"):
        await engine.start(lambda _: None)
    await engine.stop()


async def test_the_ledger_adds_up_to_the_bill(tmp_path: Path) -> None:
    async with behind(Upstream(plain("200 OK", WHOLE)), tmp_path) as stack:
        for _ in range(20):
            await ask(stack, stream=False)
        await ask(stack, stream=True)
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        billed, busy, idle, left = database.execute(
            "SELECT billed_s, busy_s, idle_s, unallocated_idle_s FROM runs"
        ).fetchone()
        shares, taken, rows = database.execute("SELECT SUM(busy_s), SUM(idle_s), COUNT(*) FROM requests").fetchone()
    assert rows == 21
    assert shares == pytest.approx(busy, rel=1e-3)
    assert taken + left == pytest.approx(idle, rel=1e-3)
    assert busy + idle == pytest.approx(billed)


async def _until(condition: Callable[[], bool], seconds: float = 5) -> None:
    for _ in range(int(seconds / 0.05)):
        if condition():
            return
        await asyncio.sleep(0.05)
    pytest.fail(f"not within {seconds} s")
