"""The engine's client over real sockets, on both event loops: stale connections, cancellation, closing, TCP_NODELAY."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import pytest
import uvloop

from serving.app import bind
from serving.engine.connection import Limits
from serving.engine.http import Connections
from serving.errors import EngineTimeout, EngineUnavailable, GatewayError, UpstreamFailed
from serving.listening import Server

LIMITS = Limits(1, 5, 2)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
Test = Callable[[], Awaitable[None]]
LOOPS = [asyncio.new_event_loop, uvloop.new_event_loop]


@pytest.fixture(params=LOOPS, ids=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Runs a coroutine function on one of the loops."""

    def runner(test: Test) -> None:
        with asyncio.Runner(loop_factory=request.param) as each:
            each.run(_within(test))

    return runner


async def _within(test: Test) -> None:
    async with asyncio.timeout(20):
        await test()


@dataclass
class Engine:
    """Answers each request by the next of `answers`, then by the last one for ever; b"" hangs up without a word."""

    answers: list[bytes] = field(default_factory=lambda: [OK])
    then_close: bool = False
    requests: int = 0
    connections: int = 0
    left: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                self.requests += 1
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                writer.write(answer)
                await writer.drain()
                if self.then_close or not answer:
                    break
                if not answer.endswith(b"ok"):
                    await reader.read()
                    break
        self.left += 1
        writer.close()


@asynccontextmanager
async def beside(engine: Engine) -> AsyncIterator[Connections]:
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    pool = Connections(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {"x": "y"})
    yield pool
    pool.close()
    server.close()
    await asyncio.sleep(0.01)


async def ask(pool: Connections, limits: Limits = LIMITS, body: bytes = b"{}") -> bytes:
    async with pool.exchange("POST", "/v1/x", body, limits) as answer:
        return await answer.read()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(200):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("not within two seconds")


def test_a_connection_is_kept_and_more_are_made_only_at_need(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        engine = Engine()
        async with beside(engine) as pool:
            for _ in range(20):
                assert await ask(pool) == b"ok"
            assert engine.connections == 1
            assert await asyncio.gather(*(ask(pool) for _ in range(50))) == [b"ok"] * 50
            assert engine.connections <= 51

    run(test)


def test_an_engine_that_closes_between_requests_costs_no_answer(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        engine = Engine(then_close=True)
        async with beside(engine) as pool:
            for pause in (0, 0, 0.001, 0.02, 0):
                assert await ask(pool) == b"ok"
                await asyncio.sleep(pause)

    run(test)


def test_a_stale_connection_is_tried_once_more_and_a_fresh_one_is_not(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        engine = Engine([OK, b"", OK, b""])
        async with beside(engine) as pool:
            assert await ask(pool) == b"ok"
            assert await ask(pool) == b"ok"  # the kept connection hangs up, the new one answers
            assert (engine.requests, engine.connections) == (3, 2)
            with pytest.raises(UpstreamFailed):
                await ask(pool)  # both hang up
            assert engine.requests == 5
            with pytest.raises(UpstreamFailed):
                await ask(pool)  # there is none kept, and a fresh one is never tried twice
            assert engine.requests == 6

    run(test)


def test_an_answer_that_began_is_never_asked_for_again(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        engine = Engine([OK, b"H", OK], then_close=False)
        async with beside(engine) as pool:
            await ask(pool)
            with pytest.raises(EngineTimeout):
                await ask(pool, Limits(1, 0.3))
            assert engine.requests == 2
            await until(lambda: engine.left == 1)

    run(test)


def test_half_a_head_and_half_a_body_run_into_the_limits(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        for half in (b"HTTP/1.1 200 OK\r\ncont", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal"):
            engine = Engine([half])
            async with beside(engine) as pool:
                for limits in (Limits(1, 0.2), Limits(1, 5, 0.2)):
                    with pytest.raises(EngineTimeout):
                        await ask(pool, limits)
                await until(lambda at=engine: at.left == 2)  # type: ignore[misc]  # a lambda's default has no type

    run(test)


def test_nobody_there_is_unavailable_and_nobody_answering_the_door_is_a_timeout(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        with socket.socket() as silent:
            silent.bind(("127.0.0.1", 0))
            port = silent.getsockname()[1]
            with pytest.raises(EngineUnavailable):
                await ask(Connections(f"http://127.0.0.1:{port}", {}))
            silent.listen(0)
            crowd = [socket.socket() for _ in range(8)]
            for one in crowd:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))
            with pytest.raises(EngineTimeout, match="no connection"):
                await ask(Connections(f"http://127.0.0.1:{port}", {}), Limits(0.2, 5))
            for one in crowd:
                one.close()

    run(test)


def test_leaving_early_closes_the_connection(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        engine = Engine([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun"])
        async with beside(engine) as pool:
            async with pool.exchange("POST", "/", b"", LIMITS) as answer:
                assert await anext(answer.chunks()) == b"begun"
            await until(lambda: engine.left == 1)

    run(test)


def test_cancelled_at_every_step_it_leaves_nothing_behind(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        engine = Engine()
        async with beside(engine) as pool:
            finished = 0
            for steps in range(60):
                task = asyncio.ensure_future(ask(pool, body=b"x" * (steps * 1000)))
                for _ in range(steps):
                    await asyncio.sleep(0)
                finished += task.done()
                task.cancel()
                with suppress(asyncio.CancelledError):
                    assert await task == b"ok"
                assert not pool.busy
                assert await ask(pool) == b"ok"
            assert finished
            pool.close()
            await until(lambda: engine.left == engine.connections)

    run(test)


def test_an_unread_answer_stops_the_engine(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        written = 0

        async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal written
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            with suppress(ConnectionError):
                while True:
                    writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                    await writer.drain()
                    written += 0x10000
            writer.close()

        server = await asyncio.start_server(flood, "127.0.0.1", 0)
        pool = Connections(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", {})
        async with pool.exchange("POST", "/", b"", LIMITS) as answer:
            await asyncio.sleep(0.3)
            before = written
            await asyncio.sleep(0.3)
            assert written == before  # the buffers of the system are full, and ours is not growing
            assert answer.unread < 2_000_000
            pieces = answer.chunks()
            while written < before + 10_000_000:
                await anext(pieces)
        pool.close()
        server.close()

    run(test)


def test_a_closed_pool_fails_what_runs_and_takes_nothing_new(run: Callable[[Test], None]) -> None:
    async def test() -> None:
        engine = Engine([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nbegun"])
        async with beside(engine) as pool:
            asking = asyncio.ensure_future(ask(pool))
            await until(lambda: engine.requests == 1)
            pool.close()
            with pytest.raises(GatewayError):
                await asking
            with pytest.raises(EngineUnavailable):
                await ask(pool)

    run(test)


def test_small_packets_go_out_at_once_on_both_sides(run: Callable[[Test], None]) -> None:
    accepted: list[bool] = []

    class Side(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            accepted.append(_no_delay(transport))

    async def test() -> None:
        listener = bind(Server.model_validate({"port": 0}))
        server = await asyncio.get_running_loop().create_server(Side, sock=listener)
        pool = Connections(f"http://127.0.0.1:{listener.getsockname()[1]}", {})
        connection = await pool.connect(1)
        assert connection.transport is not None
        assert _no_delay(connection.transport)
        await until(lambda: bool(accepted))
        assert accepted == [True]
        connection.close()
        server.close()

    run(test)


def _no_delay(transport: asyncio.BaseTransport) -> bool:
    return bool(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
