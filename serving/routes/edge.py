"""What all routes share: the gateway they belong to, bodies with a limit, and answers that watch for a hang-up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.auth import LOCAL_OPERATOR, Caller
from serving.errors import BadRequest, BodyTooLarge, EngineUnavailable, Forbidden, GatewayError
from serving.gateway import Gateway
from serving.outcome import SHUTTING_DOWN
from serving.reply import CLIENT_LEFT, Reply

JSON = "application/json"
# As they come: names in lower case.
Headers = Sequence[tuple[bytes, bytes]]
_JSON_TYPE = (b"content-type", JSON.encode())
STREAM_HEADERS = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    # Proxies must neither buffer nor cache a stream.
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)


def gateway_of(request: Request) -> Gateway:
    """The gateway this application serves. Raises EngineUnavailable while it is being assembled."""
    return running(request.app)


def running(app: Any) -> Gateway:
    """The application's gateway. Raises EngineUnavailable while it is being assembled."""
    gateway: Gateway | None = app.state.gateway
    if gateway is None:
        raise EngineUnavailable("the gateway is starting; try again shortly", retry_after_s=5)
    return gateway


def caller_of(request: Request) -> Caller:
    """The authenticated caller. Raises Unauthenticated, or Forbidden for a web page that uses a visitor's browser."""
    return authenticated(gateway_of(request), request.scope["headers"])


def authenticated(gateway: Gateway, headers: Headers) -> Caller:
    """See caller_of."""
    caller = gateway.keys.authenticate(header(headers, b"authorization"))
    if caller is LOCAL_OPERATOR:
        for name in (b"host", b"origin"):
            _refuse_strangers(name.decode(), header(headers, name))
    return caller


def header(headers: Headers, name: bytes) -> str | None:
    """The first header of this name, which is in lower case."""
    for given, value in headers:
        if given == name:
            return str(value, "latin-1")
    return None


def _refuse_strangers(header: str, value: str | None) -> None:
    # Without keys whoever reaches loopback is the operator. A page from elsewhere reaches it too, through the browser
    # of somebody on this machine, but its own name is then in the request.
    try:
        name = urlsplit(value if value and "://" in value else f"//{value}").hostname if value else None
    except ValueError:  # it is no name at all, such as "["
        name = None
    if value is not None and name not in ("localhost", "127.0.0.1", "::1"):
        raise Forbidden(
            f"the {header} {value[:100]!r} is not this machine; to serve others, create a key: `breakeven keys create`"
        )


def operator_of(request: Request) -> Caller:
    """The authenticated caller if it is an operator. Raises Unauthenticated or Forbidden."""
    caller = caller_of(request)
    caller.require_operator()
    return caller


async def read_body(request: Request, limit: int) -> bytes:
    """The request body. Raises BodyTooLarge as soon as it is clear that it is over `limit` bytes."""
    return await body_of(request.scope, request.receive, limit)


async def body_of(scope: Scope, receive: Receive, limit: int) -> bytes:
    """See read_body."""
    declared = header(scope["headers"], b"content-length") or ""
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(f"the body has {declared} bytes, the limit is {limit}")
    body, more = b"", True
    pieces: list[bytes] = []
    size = 0
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest("the client left before its request was whole")
        body, more = message.get("body", b""), message.get("more_body", False)
        pieces.append(body)
        size += len(body)
        if size > limit:
            raise BodyTooLarge(f"the body is over the limit of {limit} bytes")
    return body if len(pieces) == 1 else b"".join(pieces)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response by orjson."""
    return Response(orjson.dumps(value), status, headers, JSON)


def error_response(error: GatewayError) -> Response:
    """The OpenAI error object with its status and headers."""
    return json_response(error.body(), error.status, error.headers())


class Answer(Response):
    """Runs one request while watching whether its client is still there; a hang-up cancels it.

    Not a StreamingResponse: the answer decides late whether it is whole or a stream, and a client may also leave
    before the first byte, when only `receive` tells.
    """

    def __init__(self, run: Callable[[Reply], Awaitable[None]]) -> None:
        super().__init__()
        self._run = run

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Raises what the request raised, so that the application's error handlers apply."""
        del scope
        await watched(self._run, receive, AsgiReply(send))


async def watched(run: Callable[[Reply], Awaitable[None]], receive: Receive, reply: "AsgiReply") -> None:
    """Run one request in this task and end its reply. Returns early if the client left, raises what `run` raises."""
    watch = asyncio.ensure_future(_cancel_when_gone(asyncio.current_task(), receive, reply))
    try:
        await run(reply)
        await reply.close()
    except asyncio.CancelledError:
        if not reply.deserted:
            await reply.refuse(SHUTTING_DOWN)
            raise
    finally:
        watch.cancel()


async def _cancel_when_gone(work: "asyncio.Task[Any] | None", receive: Receive, reply: "AsgiReply") -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    if not reply.closed and work is not None:
        reply.deserted = True
        # Whoever is cancelled should know why: a client that left is not a gateway that is stopping.
        work.cancel(CLIENT_LEFT)


class AsgiReply:
    """A Reply over ASGI's `send`. `started`: the status line has gone; `deserted`: nobody is there to read the rest."""

    __slots__ = ("_send", "_streaming", "closed", "deserted", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._streaming = self.started = self.closed = self.deserted = False

    async def send(self, body: bytes, headers: Mapping[str, str]) -> None:
        """See Reply."""
        await self._head([_JSON_TYPE, (b"content-length", b"%d" % len(body))], headers)
        self.closed = True
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, headers: Mapping[str, str]) -> None:
        """See Reply."""
        self._streaming = True
        await self._head(STREAM_HEADERS, headers)

    async def write(self, data: bytes) -> None:
        """See Reply."""
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def refuse(self, error: GatewayError) -> None:
        """The error instead of an answer, unless one has begun."""
        if not self.started:
            self.started = self.closed = True
            headers = [_JSON_TYPE, *((name.encode(), value.encode()) for name, value in error.headers().items())]
            await self._send({"type": "http.response.start", "status": error.status, "headers": headers})
            await self._send({"type": "http.response.body", "body": orjson.dumps(error.body())})

    async def close(self) -> None:
        """The stream, if it is one, ends here."""
        if self._streaming:
            self.closed = True
            await self._send({"type": "http.response.body", "body": b""})

    async def _head(self, fixed: Sequence[tuple[bytes, bytes]], headers: Mapping[str, str]) -> None:
        self.started = True
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": [*fixed, *pairs]})
