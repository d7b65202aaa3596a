"""What a client may do to a connection on the hot routes, byte by byte: everything that is not usual goes by FastAPI,
and whoever comes next on the connection is answered as if nothing had been."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from uvicorn.server import ServerState

from serving.app import create_app, http_config
from serving.auth import EVERYONE
from serving.routes.hot import HotProtocol
from tests.serving.gateways import Running, running, settings_for

ASK = orjson.dumps({"model": "plain", "messages": [{"role": "user", "content": "rain"}]})
STREAM = orjson.dumps({**orjson.loads(ASK), "stream": True})
HOT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"


def sized(body: bytes, *lines: bytes, start: bytes = HOT) -> bytes:
    return start + b"".join(line + b"\r\n" for line in lines) + b"content-length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(settings_for(tmp_path)) as started:
        yield started


class Client:
    """A connection that reads one answer after the other."""

    def __init__(self, stack: Running) -> None:
        self._port = int(stack.url.rpartition(":")[2])

    async def __aenter__(self) -> "Client":
        self._reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        async with asyncio.timeout(10):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
            if "content-length" in headers:
                body = await self._reader.readexactly(int(headers["content-length"]))
            else:
                body = b""
                while size := int(await self._reader.readline(), 16):
                    body += (await self._reader.readexactly(size + 2))[:-2]
                assert await self._reader.readline() == b"\r\n"
            return int(head[0].split()[1]), headers, body

    async def ended(self) -> bool:
        """Whether the gateway closes the connection."""
        async with asyncio.timeout(10):
            return await self._reader.read() == b""


def said(body: bytes) -> Any:
    return orjson.loads(body)["choices"][0]["message"]["content"]


CHUNKED = HOT + b"transfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(ASK), ASK)
QUERY = sized(ASK, start=HOT.replace(b" HTTP", b"?a=1 HTTP"))
UNUSUAL = {"usual": sized(ASK), "chunked": CHUNKED, "with a query": QUERY, "slowly": sized(ASK)}


@pytest.mark.parametrize("name", UNUSUAL)
async def test_a_connection_goes_on_after_any_request(stack: Running, name: str) -> None:
    async with Client(stack) as client:
        for _ in range(2):
            if name == "slowly":
                for at in range(0, len(UNUSUAL[name]), 16):
                    client.writer.write(UNUSUAL[name][at : at + 16])
                    await client.writer.drain()
                    await asyncio.sleep(0)
            else:
                client.writer.write(UNUSUAL[name])
            assert (await client.answer())[0] == 200
            client.writer.write(sized(STREAM))
            status, headers, body = await client.answer()
            assert (status, headers["transfer-encoding"]) == (200, "chunked")
            assert body.endswith(b"data: [DONE]\n\n")


async def test_requests_that_do_not_wait_are_answered_in_their_order(stack: Running) -> None:
    words = ["one", "two", "three", "four"]
    bodies = [ASK.replace(b"rain", word.encode()) for word in words]
    get = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
    async with Client(stack) as client:
        client.writer.write(get.join(map(sized, bodies)))
        for number, word in enumerate(words):
            if number:
                assert (await client.answer())[2] == b'{"status":"alive"}'
            assert word in said((await client.answer())[2])


async def test_who_expects_to_be_told_to_go_on_is_told(stack: Running) -> None:
    async with Client(stack) as client:
        head, body = sized(ASK, b"expect: 100-continue").split(b"\r\n\r\n", 1)
        client.writer.write(head + b"\r\n\r\n")
        assert await client._reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.writer.write(body)
        assert (await client.answer())[0] == 200


async def test_a_connection_that_is_to_be_closed_is(stack: Running) -> None:
    for body in (ASK, STREAM):
        async with Client(stack) as client:
            client.writer.write(sized(body, b"connection: close"))
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (200, "close")
            assert await client.ended()


async def test_errors_leave_the_connection_open(stack: Running) -> None:
    async with Client(stack) as client:
        for body, status in ((b"{", 400), (ASK.replace(b"plain", b"nobody"), 404), (b"", 400), (ASK, 200)):
            client.writer.write(sized(body))
            assert (await client.answer())[0] == status
        stack.gateway.keys.create("acme", [EVERYONE], "user")
        client.writer.write(sized(ASK, b"authorization: Bearer bk-no-key") * 2)
        for _ in range(2):
            status, headers, _ = await client.answer()
            assert (status, headers["www-authenticate"]) == (401, "bearer")


async def test_who_leaves_in_the_middle_of_a_request_leaves_nothing_behind(stack: Running) -> None:
    whole = sized(ASK)
    for at in (10, len(whole) - 1, len(whole)):
        async with Client(stack) as client:
            client.writer.write(whole[:at])
            await client.writer.drain()
            client.writer.transport.abort()
    async with Client(stack) as client:
        client.writer.write(whole)
        assert (await client.answer())[0] == 200
    assert stack.gateway.runtime.door.inside == 0
    assert not stack.gateway.runtime.meter.running_requests


async def test_who_leaves_with_requests_in_line_is_answered_no_further(tmp_path: Path) -> None:
    slow = {"simulated_itl_s": 0.05, "simulated_tokens": 1000}
    async with running(settings_for(tmp_path, engine=slow)) as stack:
        engine: Any = stack.gateway.engine
        for first in (sized(ASK.replace(b"plain", b"nobody")), sized(STREAM)):
            async with Client(stack) as client:
                client.writer.write(first + sized(STREAM) + sized(STREAM))
                await client._reader.readuntil(b"data: ")
                assert engine.running == 1
                client.writer.transport.abort()
            async with asyncio.timeout(5):
                while engine.running:  # noqa: ASYNC110  # no event for it
                    await asyncio.sleep(0.02)


UPGRADE = (
    b"GET /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def test_a_websocket_ends_what_is_being_answered_before_it(tmp_path: Path) -> None:
    slow = {"simulated_itl_s": 0.05, "simulated_tokens": 1000}
    async with running(settings_for(tmp_path, engine=slow)) as stack, Client(stack) as client:
        engine: Any = stack.gateway.engine
        client.writer.write(sized(STREAM))
        await client._reader.readuntil(b"data: ")
        client.writer.write(UPGRADE)
        await asyncio.sleep(0.1)
        client.writer.transport.abort()
        async with asyncio.timeout(2):
            while engine.running:  # noqa: ASYNC110  # no event for it
                await asyncio.sleep(0.02)


async def test_a_websocket_leaves_no_worker_behind(stack: Running) -> None:
    async with Client(stack) as client:
        client.writer.write(sized(ASK))
        assert (await client.answer())[0] == 200
        client.writer.write(UPGRADE)
        assert (await client.answer())[0] == 501
        assert not [task for task in asyncio.all_tasks() if "HotProtocol._work" in repr(task)]


@pytest.mark.parametrize("known", [False, True])
async def test_two_lengths_are_refused(stack: Running, *, known: bool) -> None:
    """What two servers might cut in different places, so that one's body is the other's next request."""
    smuggled = (
        HOT + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        HOT + b"content-length: 4\r\ncontent-length: 5\r\n\r\n12345",
        HOT + b"content-length: +4\r\n\r\n1234",
    )
    for raw in smuggled:
        async with Client(stack) as client:
            for _ in range(2 * known):
                client.writer.write(sized(ASK))
                assert (await client.answer())[0] == 200
            client.writer.write(raw)
            status, headers, _ = await client.answer()
            assert (status, headers["connection"]) == (400, "close")


async def test_a_known_head_says_nothing_about_what_follows_it(stack: Running) -> None:
    longer = ASK.replace(b"rain", b"rain and snow")
    async with Client(stack) as client:
        for _ in range(2):
            client.writer.write(sized(ASK))
            assert "rain" in said((await client.answer())[2])
        for sent in (sized(longer), sized(ASK) + sized(longer)[:40], sized(longer)[40:], sized(longer)[:-1], b"}"):
            client.writer.write(sent)
            await asyncio.sleep(0.02)
        for snow in (True, False, True, True):
            assert ("snow" in said((await client.answer())[2])) is snow
        client.writer.write(sized(b"x" * 5_000_000))
        assert (await client.answer())[0] == 413


async def test_a_known_head_is_asked_for_its_key_again(stack: Running) -> None:
    keys = stack.gateway.keys
    keys.create("acme", [EVERYONE], "user")
    key = keys.create("acme", [EVERYONE], "user")
    async with Client(stack) as client:
        for _ in range(2):
            client.writer.write(sized(ASK, b"authorization: Bearer " + key.encode()))
            assert (await client.answer())[0] == 200
        keys.revoke(key.split("-")[1])
        client.writer.write(sized(ASK, b"authorization: Bearer " + key.encode()))
        assert (await client.answer())[0] == 401


async def test_a_connection_is_closed_when_it_was_idle_and_not_before(stack: Running) -> None:
    config = http_config(create_app(stack.gateway), stack.gateway.settings.server)
    config.timeout_keep_alive = 0.3  # type: ignore[assignment]  # uvicorn takes any number
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(lambda: HotProtocol(config, state, {}), "127.0.0.1", 0)
    idle, busy, slow = [await asyncio.open_connection(*server.sockets[0].getsockname()) for _ in range(3)]
    began = loop.time()
    for _, writer in (idle, slow):
        writer.write(sized(ASK))
    slow[1].write(HOT)  # and the rest does not come
    ended = asyncio.create_task(idle[0].read())
    for _ in range(7):
        await asyncio.sleep(0.1)
        busy[1].write(sized(ASK))
        head = await busy[0].readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        await busy[0].readexactly(int(head.lower().partition(b"content-length: ")[2].split()[0]))
    assert ended.done()
    assert not slow[0].at_eof()
    assert not busy[0].at_eof()
    await busy[0].read()
    assert 0.3 < loop.time() - began - 0.7 < 0.6
    slow[1].close()
    server.close()
