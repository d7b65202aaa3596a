"""The two routes that applications call all day, answered by the connection itself: the same requests, answers and
errors as FastAPI's, without the price of a framework (benchmarks/results/gateway).

FastAPI has them too, in inference.py: for the OpenAPI description, and for whatever is unusual about a request, such as
another spelling of the path, no known key, a body without a length, or that the one before it is not answered yet.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from serving.auth import Caller
from serving.errors import GatewayError, InternalError
from serving.gateway import Gateway
from serving.openai import Endpoint
from serving.outcome import SHUTTING_DOWN
from serving.reply import CLIENT_LEFT
from serving.routes.edge import JSON, STREAM_HEADERS, authenticated, header, running

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

logger = logging.getLogger("breakeven")

# By the path as it was sent.
ENDPOINTS: Mapping[bytes, Endpoint] = {b"/v1/chat/completions": "chat", b"/v1/completions": "completions"}
_JSON_HEAD = f"content-type: {JSON}\r\ncontent-length: ".encode()
_STREAM_HEAD = b"".join(b"%b: %b\r\n" % each for each in STREAM_HEADERS) + b"transfer-encoding: chunked\r\n"
_STREAM_END = b"0\r\n\r\n"


class HotProtocol(HttpToolsProtocol):
    """uvicorn's protocol, which parses, keeps connections alive and knows when a client reads slowly; but requests for
    the hot paths become a HotRequest and not a call of the application."""

    # Whose body is coming, and who is being answered.
    receiving: "HotRequest | None" = None
    answering: "HotRequest | None" = None
    # The same, where it is the application that answers: `cycle` may be another one's that waits in line.
    begun: RequestResponseCycle | None = None
    # What waited for the client when it was last looked at, and when it will be looked at again.
    _unread = 0
    _look: asyncio.TimerHandle | None = None

    def on_headers_complete(self) -> None:
        """See HttpToolsProtocol, as all that follow."""
        endpoint = ENDPOINTS.get(self.url)
        self.receiving = None if endpoint is None or not self._usual() else self._accepted(endpoint)
        if self.receiving is None:
            super().on_headers_complete()
        else:
            # It has all that uvicorn's protocol asks of a cycle.
            self.cycle = cast(RequestResponseCycle, self.receiving)

    def on_body(self, body: bytes) -> None:
        """A piece of any size."""
        if self.receiving is None:
            super().on_body(body)
        else:
            self.receiving.body.append(body)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        if self.receiving is None:
            super().on_message_complete()
        else:
            self.answering = self.receiving
            self.answering.run()

    def connection_lost(self, exc: Exception | None) -> None:
        """Because the client left, or we did."""
        super().connection_lost(exc)
        self._stop_looking()
        if self.answering is not None:
            self.answering.hang_up()
        if self.begun is not None and not self.begun.response_complete:
            self.begun.disconnected = True
            self.begun.message_event.set()

    def pause_writing(self) -> None:
        """The client reads more slowly than it is written to: from now on it has to take something, however little, in
        each `server.send_timeout_s`. What is being written for it waits meanwhile, in the engine, too."""
        super().pause_writing()
        self._look_again()

    def resume_writing(self) -> None:
        """It has taken nearly everything."""
        super().resume_writing()
        self._stop_looking()

    def _look_again(self) -> None:
        gateway = cast("Gateway | None", self.app.state.gateway)
        if gateway is not None:
            self._unread = self.transport.get_write_buffer_size()
            self._look = self.loop.call_later(gateway.settings.server.send_timeout_s, self._judge)

    def _judge(self) -> None:
        if self.transport.get_write_buffer_size() < self._unread:
            self._look_again()
        else:
            who = self.client[0] if self.client else "a client"
            logger.warning("%s has stopped reading its answer: closed (server.send_timeout_s)", who)
            self.transport.abort()  # which is a hang-up for whoever answers it

    def _stop_looking(self) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application") -> None:
        self.begun = cycle
        super()._start_asgi_task(cycle, app)

    def _usual(self) -> bool:
        before = cast("RequestResponseCycle | None", self.cycle)
        answered = before is None or before.response_complete
        parser = self.parser
        plain = parser.get_method() == b"POST" and parser.get_http_version() == "1.1" and not parser.should_upgrade()
        return plain and answered and not self.expect_100_continue

    def _accepted(self, endpoint: Endpoint) -> "HotRequest | None":
        """None for what will be refused: FastAPI finds the words."""
        try:
            gateway = running(self.app)
            caller = authenticated(gateway, self.headers)
        except GatewayError:
            return None
        length = header(self.headers, b"content-length") or ""
        if not length.isdigit() or int(length) > gateway.settings.server.max_body_bytes:
            return None
        return HotRequest(self, gateway, caller, endpoint)


class HotRequest:
    """One request on a connection, and the Reply to it."""

    # uvicorn sets it; nobody waits for it.
    message_event = asyncio.Event()
    __slots__ = (
        *("_caller", "_endpoint", "_gateway", "_started", "_streaming", "_task", "_wire"),
        *("body", "disconnected", "keep_alive", "response_complete"),
    )

    def __init__(self, wire: HotProtocol, gateway: Gateway, caller: Caller, endpoint: Endpoint) -> None:
        self._wire, self._gateway, self._caller, self._endpoint = wire, gateway, caller, endpoint
        self._started = self._streaming = self.disconnected = self.response_complete = False
        self.keep_alive = wire.parser.should_keep_alive()
        self.body: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def run(self) -> None:
        """The body is whole: answer it."""
        self._task = self._wire.loop.create_task(self._answer())
        self._wire.tasks.add(self._task)
        self._task.add_done_callback(self._wire.tasks.discard)

    def hang_up(self) -> None:
        """The client has left."""
        self.disconnected = True
        if self._task is not None:
            # Whoever is cancelled should know why: a client that left is not a gateway that is stopping.
            self._task.cancel(CLIENT_LEFT)

    async def send(self, body: bytes, headers: Mapping[str, str]) -> None:
        """See Reply."""
        await self._until_read()
        self._whole(200, body, headers)

    async def start(self, headers: Mapping[str, str]) -> None:
        """See Reply."""
        await self._until_read()
        self._streaming = True
        self._head(200, _STREAM_HEAD, headers)

    async def write(self, data: bytes) -> None:
        """See Reply."""
        if self._wire.flow.write_paused:
            await self._until_read()
        if not self.disconnected:
            self._wire.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    async def _answer(self) -> None:
        completions = self._gateway.completions
        try:
            trace = completions.trace(self._caller, self._endpoint)
            await completions.answer(trace, self._endpoint, b"".join(self.body), self)
            if self._streaming and not self.disconnected:
                self._wire.transport.write(_STREAM_END)
                self._complete()
        except GatewayError as error:
            self._fail(error)
        except asyncio.CancelledError:
            if not self.disconnected:
                self._fail(SHUTTING_DOWN)
                raise
        except Exception as error:
            logger.error("POST %s failed", self._wire.url.decode(), exc_info=error)
            self._fail(InternalError("the gateway failed; its log has the details"))

    async def _until_read(self) -> None:
        while self._wire.flow.write_paused and not self.disconnected:
            await self._wire.flow.drain()

    def _fail(self, error: GatewayError) -> None:
        """By an error object; if an answer has begun, by the end of the connection without the end of the answer."""
        if not self._started:
            self._whole(error.status, orjson.dumps(error.body()), error.headers())
        elif not self.disconnected:
            self._wire.transport.close()

    def _whole(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self._head(status, b"%b%d\r\n" % (_JSON_HEAD, len(body)), headers, body)
        self._complete()

    def _head(self, status: int, fixed: bytes, headers: Mapping[str, str], body: bytes = b"") -> None:
        self._started = True
        if self.disconnected:
            return
        own = "".join([f"{name}: {value}\r\n" for name, value in headers.items()]).encode("latin-1")
        dated = b"".join([b"%b: %b\r\n" % each for each in self._wire.server_state.default_headers])
        close = b"" if self.keep_alive else b"connection: close\r\n"
        self._wire.transport.write(b"".join((STATUS_LINE[status], dated, fixed, own, close, b"\r\n", body)))

    def _complete(self) -> None:
        self.response_complete = True
        self._wire.answering = None
        if not self.keep_alive:
            self._wire.transport.close()
        self._wire.on_response_complete()
