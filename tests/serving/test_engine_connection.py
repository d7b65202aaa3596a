"""The protocol under the engine's client, byte by byte: splits anywhere, nonsense, and what is never used again."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.connection import Answer, Connection, Limits, Stale
from serving.errors import EngineTimeout, UpstreamFailed

LIMITS = Limits(1, 60, 10)
CHUNKED = (
    b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5;ext=1\r\nhello\r\n7\r\n, world\r\n0\r\ntrailer: 1\r\n\r\n"
)
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nhello, world"
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\nhello, world"


class Wire(asyncio.Transport):
    """A transport that remembers what was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.unsent = 0
        self.closed = self.paused = False

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.sent += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


def opened() -> tuple[Connection, Wire]:
    connection, wire = Connection(asyncio.get_running_loop()), Wire()
    connection.connection_made(wire)
    return connection, wire


async def received(answer: Answer) -> bytes:
    await answer.head()
    return await answer.read()


@pytest.mark.parametrize("whole", [CHUNKED, SIZED])
@given(cuts=st.lists(st.integers(0, 200), max_size=8))
def test_any_split_gives_the_same_answer_on_a_connection_that_can_be_used_again(whole: bytes, cuts: list[int]) -> None:
    async def run() -> None:
        connection, wire = opened()
        edges = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
        for _ in range(2):
            answer = connection.send(b"GET", LIMITS)
            for start, end in pairwise(edges):
                if start != end:
                    connection.data_received(whole[start:end])
            assert await received(answer) == b"hello, world"
            assert answer.status == 200
            assert connection.end()
        assert wire.sent == b"GETGET"
        assert not wire.closed

    asyncio.run(run())


@pytest.mark.parametrize("whole", [CHUNKED, SIZED, TO_THE_END])
async def test_an_answer_that_ends_at_any_byte_is_an_error_unless_its_end_is_the_connections(whole: bytes) -> None:
    for length in range(len(whole)):
        connection, _ = opened()
        answer = connection.send(b"GET", LIMITS)
        if length:
            connection.data_received(whole[:length])
        connection.connection_lost(None)
        if whole is TO_THE_END and b"\r\n\r\n" in whole[:length]:
            assert await received(answer) == whole[19:length]
        else:
            with pytest.raises(UpstreamFailed):
                await received(answer)
        assert not connection.end()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x00\x01\x02",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"HTTP/1.1 99999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x05hello",
        b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 20_000,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n" + b"x: y\r\n" * 20_000,
    ],
)
async def test_what_is_not_an_answer_is_an_error_at_once(nonsense: bytes) -> None:
    connection, wire = opened()
    answer = connection.send(b"GET", LIMITS)
    for at in range(0, len(nonsense), 4096):
        if not wire.closed:
            connection.data_received(nonsense[at : at + 4096])
    with pytest.raises(UpstreamFailed):
        await received(answer)
    assert wire.closed
    assert not connection.end()


async def test_what_nobody_asked_for_closes_the_connection() -> None:
    connection, wire = opened()
    answer = connection.send(b"GET", LIMITS)
    connection.data_received(SIZED + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
    assert await received(answer) == b"hello, world"
    assert not connection.end()
    connection, wire = opened()
    connection.data_received(b"HTTP/1.1 408 Too slow\r\n\r\n")
    assert wire.closed


EARLY = b"HTTP/1.1 103 Early Hints\r\ncontent-length: %d\r\n\r\n" % len(SIZED) + SIZED
CLOSING = SIZED.replace(b"OK\r\n", b"OK\r\nconnection: close\r\n")
REFUSED = SIZED.replace(b"200 OK", b"404 Not Found")


@pytest.mark.parametrize(("whole", "status"), [(SIZED, 200), (EARLY, 200), (REFUSED, 404)])
async def test_an_answer_that_came_before_is_read_in_the_same_way(whole: bytes, status: int) -> None:
    for _ in range(3):
        connection, wire = opened()
        for _ in range(2):
            answer = connection.send(b"GET", LIMITS)
            connection.data_received(whole)
            assert await received(answer) == b"hello, world"
            assert answer.status == status
            assert connection.end()
        answer = connection.send(b"GET", LIMITS)
        connection.data_received(CLOSING)
        assert await received(answer) == b"hello, world"
        assert not connection.end()
        assert wire.closed


async def test_a_known_head_says_nothing_about_what_follows_it() -> None:
    connection, wire = opened()
    answer = connection.send(b"GET", LIMITS)
    for piece in (SIZED, SIZED):
        answer = connection.send(b"GET", LIMITS)
        connection.data_received(piece)
        assert await received(answer) == b"hello, world"
        assert connection.end()
    answer = connection.send(b"GET", LIMITS)
    connection.data_received(SIZED[:-1])
    connection.connection_lost(None)
    with pytest.raises(UpstreamFailed):
        await received(answer)
    connection, wire = opened()
    answer = connection.send(b"GET", LIMITS)
    connection.data_received(SIZED + SIZED)
    assert await received(answer) == b"hello, world"
    assert not connection.end()
    assert wire.closed


async def test_a_late_reader_never_sees_the_next_answer() -> None:
    connection, _ = opened()
    first = connection.send(b"GET", LIMITS)
    connection.data_received(SIZED)
    assert connection.end()
    second = connection.send(b"GET", LIMITS)
    connection.data_received(SIZED.replace(b"hello", b"other"))
    assert await received(first) == b"hello, world"
    assert await received(second) == b"other, world"


@pytest.mark.parametrize(
    "last",
    [
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    ],
)
async def test_a_connection_that_the_engine_will_close_is_not_kept(last: bytes) -> None:
    connection, _ = opened()
    answer = connection.send(b"GET", LIMITS)
    connection.data_received(last)
    assert await received(answer) == b"ok"
    assert not connection.end()


async def test_a_connection_with_an_unsent_rest_of_a_request_is_not_kept() -> None:
    connection, wire = opened()
    answer = connection.send(b"x" * 4_000_000, LIMITS)
    wire.unsent = 1_000_000
    connection.data_received(b"HTTP/1.1 413 Too large\r\ncontent-length: 0\r\n\r\n")
    assert await received(answer) == b""
    assert not connection.end()
    assert wire.closed


async def test_only_a_used_connection_without_a_byte_of_an_answer_is_stale() -> None:
    connection, _ = opened()
    answer = connection.send(b"GET", LIMITS)
    connection.data_received(SIZED)
    await received(answer)
    connection.end()
    answer = connection.send(b"GET", LIMITS)
    connection.connection_lost(ConnectionResetError())
    with pytest.raises(Stale):
        await answer.head()


async def test_what_is_not_read_stops_the_engine_and_reading_lets_it_go_on() -> None:
    connection, wire = opened()
    answer = connection.send(b"GET", LIMITS)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n")
    sent = 0
    while not wire.paused:
        connection.data_received(b"x" * 65_536)
        sent += 65_536
    assert answer.unread == sent < 1_000_000
    assert len(await anext(answer.chunks())) == sent
    assert (wire.paused, answer.unread) == (False, 0)


async def test_the_clock_ends_silence_and_length_but_not_a_slow_reader() -> None:
    loop = asyncio.get_running_loop()
    connection, wire = opened()
    answer = connection.send(b"GET", LIMITS)
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")
    connection.check(loop.time() + 11)  # five bytes wait for the reader: the engine is not silent
    assert await anext(answer.chunks()) == b"hello"
    connection.check(loop.time() + 9)
    assert not wire.closed
    connection.check(loop.time() + 11)
    with pytest.raises(EngineTimeout, match="silent"):
        await answer.read()
    connection, _ = opened()
    answer = connection.send(b"GET", Limits(1, 60))
    connection.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
    connection.check(loop.time() + 59)
    assert answer.error is None
    connection.check(loop.time() + 61)
    with pytest.raises(EngineTimeout, match="too long"):
        await answer.read()
