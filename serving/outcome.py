"""How a request ends in its record, whatever goes wrong on the way."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from serving.accounting.record import Tokens
from serving.errors import EngineUnavailable, GatewayError, InternalError
from serving.reply import CLIENT_LEFT
from serving.trace import CLIENT_CLOSED, Trace

logger = logging.getLogger("breakeven")

SHUTTING_DOWN = EngineUnavailable("the gateway is shutting down; send the request again", code="shutting_down")


@contextmanager
def recorded(trace: Trace) -> Iterator[None]:
    """Ends the trace with whatever is raised inside. A fault of ours becomes an InternalError that names it."""
    try:
        yield
    except GatewayError as error:
        error.request_id = trace.id
        trace.end("error", error.status, error.code)
        raise
    except asyncio.CancelledError as stop:
        cancelled(trace, stop)
        raise
    except Exception:
        logger.exception("%s failed", trace.id)
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
