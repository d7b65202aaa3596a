"""How the engine's answer is followed to its end, and how a request ends in its record, whatever goes wrong."""

import asyncio
import logging
from types import TracebackType
from typing import Any, Protocol

import orjson

from serving.accounting.record import Tokens
from serving.engine.protocol import EngineResponse
from serving.errors import EngineUnavailable, GatewayError, InternalError, UpstreamFailed
from serving.reply import CLIENT_LEFT, Reply
from serving.trace import CLIENT_CLOSED, Trace

logger = logging.getLogger("breakeven")

SHUTTING_DOWN = EngineUnavailable("the gateway is shutting down; send the request again", code="shutting_down")


class recorded:  # a name like those of contextlib: it is used in a `with`
    """Ends the trace with whatever is raised inside. A fault of ours becomes an InternalError that names it."""

    __slots__ = ("_trace",)

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        trace = self._trace
        if error is None:
            return
        if isinstance(error, GatewayError):
            error.request_id = trace.id
            trace.end("error", error.status, error.code)
        elif isinstance(error, asyncio.CancelledError):
            cancelled(trace, error)
        elif isinstance(error, Exception):
            logger.error("%s failed", trace.id, exc_info=error)
            trace.end("error", InternalError.status)
            failure = InternalError(f"the gateway failed; its log has the details under {trace.id}")
            failure.request_id = trace.id
            raise failure from None


def cancelled(trace: Trace, stop: asyncio.CancelledError, tokens: Tokens | None = None) -> bool:
    """Record it; True if it was not the client who left."""
    if CLIENT_LEFT in stop.args:
        trace.end("cancelled", CLIENT_CLOSED, tokens=tokens)
        return False
    trace.end("error", EngineUnavailable.status, SHUTTING_DOWN.code, tokens)
    return True


class StreamRelay(Protocol):
    """What relays one kind of event stream."""

    def feed(self, piece: bytes) -> bytes:
        """Take bytes from the engine, return what can go to the client now."""

    def check_complete(self) -> None:
        """Raises GatewayError at the end of the engine's bytes if the answer is not whole."""

    def tokens(self) -> Tokens:
        """Counts so far."""

    def failure(self, error: GatewayError) -> bytes:
        """The error event of this kind of stream."""


async def follow(trace: Trace, response: EngineResponse, relay: StreamRelay, reply: Reply) -> bool:
    """Relay the engine's stream to its end. False if it broke off: the client was told, and the record is made."""
    try:
        async for piece in response.chunks():
            trace.saw_bytes()
            if whole := _fed(trace, relay, piece):
                await reply.write(whole)
        relay.check_complete()
    except GatewayError as error:
        # The status line is gone: the failure becomes an event, and the stream ends without its mark of completion.
        trace.end("error", error.status, error.code, relay.tokens())
        await reply.write(relay.failure(error))
        return False
    except asyncio.CancelledError as stop:
        if cancelled(trace, stop, relay.tokens()):
            await reply.write(relay.failure(SHUTTING_DOWN))
        raise
    trace.leave_engine(relay.tokens())
    return True


def _fed(trace: Trace, relay: StreamRelay, piece: bytes) -> bytes:
    try:
        return relay.feed(piece)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        # What was used until then is to be paid for, and the client is to be told.
        logger.error("%s: the engine's stream cannot be read", trace.id, exc_info=error)
        raise UpstreamFailed("the engine's answer cannot be read; send the request again") from None


async def read_answer(trace: Trace, response: EngineResponse, said: str) -> tuple[bytes, dict[str, Any]]:
    """The whole answer, and it as JSON, in which `said` is a list. Raises UpstreamFailed if it is not whole."""
    body = await response.read()
    trace.saw_bytes()
    try:
        answer: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get(said), list):
        return body, answer
    raise UpstreamFailed("the engine's answer was not whole; send the request again")
