"""What all routes share: the gateway they belong to, bodies with a limit, and answers that watch for a hang-up."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import orjson
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serving.auth import LOCAL_OPERATOR, Caller
from serving.errors import BadRequest, BodyTooLarge, EngineUnavailable, Forbidden, GatewayError
from serving.gateway import Gateway
from serving.reply import CLIENT_LEFT, Reply

JSON = "application/json"


def gateway_of(request: Request) -> Gateway:
    """The gateway this application serves. Raises EngineUnavailable while it is being assembled."""
    gateway: Gateway | None = request.app.state.gateway
    if gateway is None:
        raise EngineUnavailable("the gateway is starting; try again shortly", retry_after_s=5)
    return gateway


def caller_of(request: Request) -> Caller:
    """The authenticated caller. Raises Unauthenticated, or Forbidden for a web page that uses a visitor's browser."""
    caller = gateway_of(request).keys.authenticate(request.headers.get("authorization"))
    if caller is LOCAL_OPERATOR:
        for header in ("host", "origin"):
            _refuse_strangers(header, request.headers.get(header))
    return caller


def _refuse_strangers(header: str, value: str | None) -> None:
    # Without keys whoever reaches loopback is the operator. A page from elsewhere reaches it too, through the browser
    # of somebody on this machine, but its own name is then in the request.
    name = urlsplit(value if value and "://" in value else f"//{value}").hostname if value else None
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
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise BodyTooLarge(f"the body has {declared} bytes, the limit is {limit}")
    pieces, size = [], 0
    try:
        async for piece in request.stream():
            size += len(piece)
            if size > limit:
                raise BodyTooLarge(f"the body is over the limit of {limit} bytes")
            pieces.append(piece)
    except ClientDisconnect:
        raise BadRequest("the client left before its request was whole") from None
    return b"".join(pieces)


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
        reply = _AsgiReply(send)
        work = asyncio.ensure_future(self._run(reply))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():
                # Whoever is cancelled should know why: a client that left is not a gateway that is stopping.
                work.cancel(CLIENT_LEFT if gone.done() else None)
                with suppress(asyncio.CancelledError):
                    await work
            gone.cancel()
        if not work.cancelled():
            work.result()
            await reply.close()


class _AsgiReply:
    def __init__(self, send: Send) -> None:
        self._send = send
        self._streaming = False

    async def send(self, body: bytes, headers: Mapping[str, str]) -> None:
        await self._head({"content-type": JSON, "content-length": str(len(body)), **headers})
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, headers: Mapping[str, str]) -> None:
        self._streaming = True
        # Proxies must neither buffer nor cache a stream.
        fixed = {
            "content-type": "text/event-stream; charset=utf-8",
            "cache-control": "no-cache",
            "x-accel-buffering": "no",
        }
        await self._head({**fixed, **headers})

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def close(self) -> None:
        if self._streaming:
            await self._send({"type": "http.response.body", "body": b""})

    async def _head(self, headers: Mapping[str, str]) -> None:
        pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": 200, "headers": pairs})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
