"""A client that stops reading: it holds a place in the engine for `server.send_timeout_s`, and no longer."""

import asyncio
import logging
from pathlib import Path

import orjson
import pytest
from uvicorn.server import ServerState

from serving.app import create_app, http_config
from serving.routes.hot import HotProtocol
from tests.serving.gateways import Running, running, settings_for
from tests.serving.test_hot_routes import ASK, SPELLINGS, Flood
from tests.serving.test_upstream import outcomes


async def cut_off(upstream: Flood, stack: Running) -> None:
    """Wait until the engine is told and nothing is held any more."""
    async with asyncio.timeout(10):
        runtime = stack.gateway.runtime
        while not upstream.closed or runtime.door.inside or runtime.meter.running:  # noqa: ASYNC110  # no event for it
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("path", SPELLINGS["chat"])
async def test_it_is_cut_off_and_what_it_took_is_metered(
    path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upstream = Flood()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    engine = {"kind": "vllm", "url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "model": "base"}
    body = orjson.dumps({**ASK, "stream": True})
    head = b"POST /v1/%b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (path.encode(), len(body))
    async with running(settings_for(tmp_path, engine=engine, server={"send_timeout_s": 0.3})) as stack:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(stack.url.rpartition(":")[2]), limit=1024)
        with caplog.at_level(logging.WARNING):
            writer.write(head + body)
            await reader.readuntil(b"\r\n\r\n")
            await cut_off(upstream, stack)
        assert not stack.gateway.runtime.meter.running_requests
        assert outcomes(stack) == {"cancelled": 1}
        assert stack.gateway.runtime.meter.bill().busy_s > 0
        assert "send_timeout_s" in caplog.text
        writer.transport.abort()
    server.close()


class Wire(asyncio.Transport):
    """A connection to a client that takes what the test says."""

    def __init__(self) -> None:
        super().__init__()
        self.unread, self.aborted = 100_000, False

    def get_write_buffer_size(self) -> int:
        return self.unread

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted


@pytest.mark.parametrize("takes", [0, 1])
async def test_a_slow_reader_is_not_cut_and_one_that_stands_still_is(takes: int, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, server={"send_timeout_s": 0.15})
    async with running(settings) as stack:
        protocol = HotProtocol(http_config(create_app(stack.gateway), settings.server), ServerState(), {})
        wire = Wire()
        protocol.connection_made(wire)
        protocol.pause_writing()
        for _ in range(20):
            await asyncio.sleep(0.02)
            wire.unread -= takes
        assert wire.aborted == (takes == 0)
        protocol.resume_writing()
        wire.aborted = False
        await asyncio.sleep(0.2)
        assert not wire.aborted
        protocol.connection_lost(ConnectionResetError())
