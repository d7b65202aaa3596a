"""The two routes that applications call all day, answered by the connection itself: the same requests, answers and
errors as FastAPI's, without the price of a framework (benchmarks/results/gateway).

FastAPI has them too, in inference.py: for the OpenAPI description, and for whatever is unusual about a request, such as
another spelling of the path, no known key, a body without a length, or that the one before it is not answered yet.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from serving.auth import Caller
from serving.errors import GatewayError, InternalError
from serving.gateway import Gateway
from serving.heads import Heads, whole
from serving.openai import Endpoint
from serving.outcome import SHUTTING_DOWN
from serving.reply import CLIENT_LEFT
from serving.routes.edge import JSON, STREAM_HEADERS, Headers, authenticated, header, running
from serving.routes.wire import Wire

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application

logger = logging.getLogger("breakeven")

# By the path as it was sent.
ENDPOINTS: Mapping[bytes, Endpoint] = {b"/v1/chat/completions": "chat", b"/v1/completions": "completions"}
_JSON_HEAD = f"content-type: {JSON}\r\ncontent-length: ".encode()
_STREAM_HEAD = b"".join(b"%b: %b\r\n" % each for each in STREAM_HEADERS) + b"transfer-encoding: chunked\r\n"
_STREAM_END = b"0\r\n\r\n"


class HotProtocol(Wire):
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
    # Of the requests that were a HotRequest, whoever sent them.
    heads: ClassVar[Heads[tuple[Endpoint, Headers]]] = Heads()
    # A part of a request is here; the head of the one that the parser reads, if it came in one piece.
    within = False
    head: bytes | None = None
    # Answers all of them, one after the other: to make a task for each costs twice as much as to wake one. Whoever sets
    # `turn` wakes it.
    worker: asyncio.Task[None] | None = None
    turn: asyncio.Future[None] | None = None

    def data_received(self, data: bytes) -> None:
        """See HttpToolsProtocol, as all that follow. A request whose head is known needs no parser."""
        message = None if self.within else whole(data)
        if message is None:
            self.head = None
        else:
            self.head = message.head
            known = self.heads.get(message.head)
            if known is not None and self.answered() and self._taken(*known, message.body):
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Its first byte."""
        self.within = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is read."""
        endpoint = ENDPOINTS.get(self.url)
        length = header(self.headers, b"content-length") or ""
        self.receiving = None
        if endpoint is not None and length.isdigit() and self._usual():
            keep_alive = self.parser.should_keep_alive()
            self.receiving = self._accepted(endpoint, self.headers, int(length), keep_alive=keep_alive)
        if self.receiving is None:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of any size."""
        if self.receiving is None:
            super().on_body(body)
        else:
            self.receiving.body.append(body)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self.within = False
        if self.receiving is None:
            super().on_message_complete()
        else:
            if self.head is not None and self.receiving.keep_alive:
                self.heads.learn(self.head, (ENDPOINTS[self.url], self.headers))
            self._answer(self.receiving)

    def handle_websocket_upgrade(self) -> None:
        """Another protocol hears of the connection's end from now on."""
        if self.worker is not None and self.turn is not None:
            self.worker.cancel()
        super().handle_websocket_upgrade()

    def connection_lost(self, exc: Exception | None) -> None:
        """Because the client left, or we did."""
        super().connection_lost(exc)
        self._stop_looking()
        if self.answering is not None:
            self.answering.disconnected = True
        # Who has sent the last answer and is tidying up after it ends by itself.
        if self.worker is not None and (self.answering is not None or self.turn is not None):
            # Whoever is cancelled should know why: a client that left is not a gateway that is stopping.
            self.worker.cancel(CLIENT_LEFT)
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
        parser = self.parser
        plain = parser.get_method() == b"POST" and parser.get_http_version() == "1.1" and not parser.should_upgrade()
        return plain and self.answered() and not self.expect_100_continue

    def _taken(self, endpoint: Endpoint, headers: Headers, body: bytes) -> bool:
        """Whether this request is being answered now."""
        request = self._accepted(endpoint, headers, len(body), keep_alive=True)
        if request is None:
            return False
        self._unset_keepalive_if_required()
        request.body.append(body)
        self._answer(request)
        return True

    def _accepted(self, endpoint: Endpoint, headers: Headers, length: int, *, keep_alive: bool) -> "HotRequest | None":
        """None for what will be refused: FastAPI finds the words."""
        try:
            gateway = running(self.app)
            caller = authenticated(gateway, headers)
        except GatewayError:
            return None
        if length > gateway.settings.server.max_body_bytes:
            return None
        request = HotRequest(self, gateway, caller, endpoint, keep_alive=keep_alive)
        # It has all that uvicorn's protocol asks of a cycle.
        self.cycle = cast(RequestResponseCycle, request)
        return request

    def _answer(self, request: "HotRequest") -> None:
        self.answering = request
        if self.worker is None:
            self.worker = self.loop.create_task(self._work())
        elif self.turn is not None:
            self.turn.set_result(None)
            self.turn = None
        self.tasks.add(self.worker)

    async def _work(self) -> None:
        worker = cast("asyncio.Task[None]", self.worker)
        try:
            while not self.transport.is_closing():
                if (request := self.answering) is None:
                    self.turn = self.loop.create_future()
                    await self.turn
                    continue
                await request.answer()
                if self.answering is request:  # it broke off
                    self.transport.close()
                # The next request may be here before all is tidied up after this one.
                if self.answering is None:
                    self.tasks.discard(worker)
        finally:
            self.tasks.discard(worker)
            self.worker = self.turn = None


class HotRequest:
    """One request on a connection, and the Reply to it."""

    # uvicorn sets it; nobody waits for it.
    message_event = asyncio.Event()
    __slots__ = (
        *("_caller", "_endpoint", "_gateway", "_started", "_streaming", "_wire"),
        *("body", "disconnected", "keep_alive", "response_complete"),
    )

    def __init__(
        self, wire: HotProtocol, gateway: Gateway, caller: Caller, endpoint: Endpoint, *, keep_alive: bool
    ) -> None:
        self._wire, self._gateway, self._caller, self._endpoint = wire, gateway, caller, endpoint
        self._started = self._streaming = self.disconnected = self.response_complete = False
        self.keep_alive = keep_alive
        self.body: list[bytes] = []

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

    async def answer(self) -> None:
        """The body is whole."""
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
            logger.error("a request for %s failed", self._endpoint, exc_info=error)
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
        close = b"" if self.keep_alive else b"connection: close\r\n"
        parts = (STATUS_LINE[status], self._wire.default_head(), fixed, own, close, b"\r\n", body)
        self._wire.transport.write(b"".join(parts))

    def _complete(self) -> None:
        self.response_complete = True
        self._wire.answering = None
        if not self.keep_alive:
            self._wire.transport.close()
        self._wire.on_response_complete()
