"""One HTTP/1.1 connection to an engine, with one exchange at a time on it, and the answer that is being received.

What it does not trust: that a kept-alive connection is still open, that an answer ends, that it is HTTP, that whoever
waits for the answer reads it as fast as it comes.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import ClassVar, cast

import httptools

from serving.errors import EngineTimeout, UpstreamFailed
from serving.heads import Heads, whole

_OK = 200
_BROKE_OFF = "engine_broke_off"
_HIGH_WATER = 1 << 18  # unread bytes of an answer at which we stop reading from the engine
_MAX_BARREN = 1 << 16  # bytes on end that bring no byte of a body: heads, interim answers, trailers
_MAX_WHOLE = 1 << 28  # of an answer that is kept in memory as a whole


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds for the connection, the whole exchange, and between two pieces of the answer (None: only the whole)."""

    connect_s: float
    total_s: float
    idle_s: float | None = None


class Stale(Exception):
    """The kept-alive connection had been closed before it was used again; nothing of an answer came."""


class Answer:
    """What has come of one answer and was not read yet. `resume` is called when all of that was read."""

    __slots__ = ("_pieces", "_resume", "_waiter", "done", "error", "headed", "status", "unread")

    def __init__(self, resume: Callable[[], None]) -> None:
        self.status = 0
        self.headed = self.done = False
        self.error: Exception | None = None
        self.unread = 0
        self._pieces: list[bytes] = []
        self._resume = resume
        self._waiter: asyncio.Future[None] | None = None

    async def head(self) -> None:
        """Return when the status is known. Raises GatewayError, or Stale."""
        while not self.headed:
            if self.error is not None:
                raise self.error
            await self._news()

    async def chunks(self) -> AsyncIterator[bytes]:
        """See EngineResponse."""
        while True:
            if self._pieces:
                yield self._take()
            elif self.error is not None:
                raise self.error
            elif self.done:
                return
            else:
                await self._news()

    async def read(self) -> bytes:
        """See EngineResponse."""
        if self.done:
            return self._take()
        pieces, size = [], 0
        async for piece in self.chunks():
            pieces.append(piece)
            size += len(piece)
            if size > _MAX_WHOLE:
                raise UpstreamFailed(f"the engine's answer is longer than {_MAX_WHOLE} bytes")
        return b"".join(pieces)

    def put(self, piece: bytes) -> None:
        """Something of the body came."""
        self._pieces.append(piece)
        self.unread += len(piece)

    def fail(self, error: Exception) -> None:
        """What came is read first, then this is raised."""
        if self.error is None and not self.done:
            self.error = error
            self.wake()

    def wake(self) -> None:
        """There is something new."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _take(self) -> bytes:
        pieces, self._pieces, self.unread = self._pieces, [], 0
        self._resume()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _news(self) -> "asyncio.Future[None]":
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter


class Connection(asyncio.Protocol):
    """Fed by the event loop. `send` begins an exchange, `end` ends it."""

    # Of answers that came whole, with status 200, on a connection that can be used again.
    heads: ClassVar[Heads[bool]] = Heads()

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._time = loop.time
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self._answer: Answer | None = None  # None between exchanges
        self._limits = Limits(0, 0)
        self._began = self._heard = 0.0
        self._used = self._paused = self._framed = self._extra = self._keep = self._begun = False
        self._barren = 0

    def send(self, request: bytes, limits: Limits) -> Answer:
        """Begin an exchange."""
        self._limits, self._barren = limits, 0
        self._framed = self._extra = self._keep = self._begun = False
        self._began = self._heard = self._time()
        self._answer = answer = Answer(self._resume)
        if self.transport is None or self.transport.is_closing():
            answer.fail(self._broken())
        else:
            self.transport.write(request)
        return answer

    def end(self) -> bool:
        """The exchange is over. True if the connection can be used again; otherwise it is closed, and whoever still
        generates at its other end knows that nobody wants the rest."""
        answer, self._answer = self._answer, None
        transport = self.transport
        if answer is None or transport is None:
            return False
        whole = answer.done and self._keep and not self._extra and not transport.is_closing()
        # An engine may answer before it has read the request; what is left of that must not meet the next answer.
        if not whole or transport.get_write_buffer_size():
            self.close()
            return False
        self._used = True
        self._heard = self._time()
        self._resume()
        return True

    def close(self) -> None:
        """At once: a request that the engine does not read must not keep it open."""
        if self.transport is not None:
            self.transport.abort()

    def check(self, now: float) -> None:
        """Fails the exchange if it is out of time. What waits here for a slow client is not the engine's silence."""
        answer, limits = self._answer, self._limits
        if answer is None:
            return
        if now - self._began > limits.total_s:
            self._fail(EngineTimeout("the engine took too long; ask for fewer tokens or try again"))
        elif limits.idle_s is not None and not answer.unread and now - self._heard > limits.idle_s:
            self._fail(EngineTimeout("the engine accepted the request and went silent; try again"))

    def usable(self, since: float) -> bool:
        """Whether it is open and was used after `since`, on the loop's clock."""
        return self.transport is not None and not self.transport.is_closing() and self._heard > since

    def _fail(self, error: Exception) -> None:
        if self._answer is not None:
            self._answer.fail(error)
        self.close()

    def _resume(self) -> None:
        if self._paused:
            self._paused = False
            self._heard = self._time()
            if self.transport is not None and not self.transport.is_closing():
                self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are none by name

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        answer = self._answer
        if answer is None:
            self.close()  # nobody asked
            return
        self._heard = self._time()
        message, self._begun = None if self._begun else whole(data), True
        if message is not None and self.heads.get(message.head) and message.body:
            answer.status, answer.headed = _OK, True
            answer.put(message.body)
            answer.done = self._keep = True
            answer.wake()
            return
        unread = answer.unread
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._fail(UpstreamFailed("what the engine answers is not HTTP", code=_BROKE_OFF))
            return
        if answer.headed:
            answer.wake()
        if answer.done:
            came = answer.unread - unread
            if message is not None and came == len(message.body) and self._keep and not self._extra:
                self.heads.learn(message.head, answer.status == _OK)
            return
        self._barren = 0 if answer.unread > unread else self._barren + len(data)
        if self._barren > _MAX_BARREN:
            self._fail(UpstreamFailed("the engine's answer is all head and no body", code=_BROKE_OFF))
        elif answer.unread > _HIGH_WATER and not self._paused and self.transport is not None:
            self._paused = True
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        answer = self._answer
        if answer is None or answer.done or answer.error is not None:
            return
        if answer.headed and not self._framed and exc is None:
            answer.done = True  # its end is the answer's
            answer.wake()
        else:
            answer.fail(self._broken())

    def _broken(self) -> Exception:
        untouched = self._answer is not None and not self._answer.headed and not self._barren
        if self._used and untouched:
            return Stale()
        return UpstreamFailed("the engine broke off; send the request again", code=_BROKE_OFF)

    def on_message_begin(self) -> None:
        """The parser's, as all that follow. After the answer's end: another one, that nobody asked for."""
        self._extra = self._answer is None or self._answer.done

    def on_header(self, name: bytes, value: bytes) -> None:
        """Only how the body ends is of interest."""
        del value
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._framed = True

    def on_headers_complete(self) -> None:
        """Interim answers (1xx) are passed over."""
        status = self._parser.get_status_code()
        if self._answer is not None and not self._extra and status >= 200:
            self._answer.status, self._answer.headed = status, True

    def on_body(self, body: bytes) -> None:
        """A piece of any size."""
        if self._answer is not None and not self._extra:
            self._answer.put(body)

    def on_message_complete(self) -> None:
        """Of an interim answer, which has no status for us, or of the answer."""
        if self._answer is not None and self._answer.headed and not self._extra:
            self._answer.done, self._keep = True, self._parser.should_keep_alive()
