"""The two routes that applications call all day, in front of FastAPI: the same requests, answers and errors, without
the price of a framework (benchmarks/results/gateway).

FastAPI has them too, in inference.py: for the OpenAPI description, and for any other spelling of their paths.
"""

import logging
from collections.abc import Mapping
from functools import partial

from fastapi import FastAPI
from starlette.types import Receive, Scope, Send

from serving.errors import GatewayError, InternalError
from serving.openai import Endpoint
from serving.routes.edge import AsgiReply, authenticated, body_of, error_response, running, watched

logger = logging.getLogger("breakeven")

# By the path as it was sent.
ENDPOINTS: Mapping[bytes, Endpoint] = {b"/v1/chat/completions": "chat", b"/v1/completions": "completions"}


class HotRoutes:
    """An ASGI application that answers completions itself and passes everything else on to `app`."""

    def __init__(self, app: FastAPI) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http" or scope["method"] != "POST" or scope.get("raw_path") not in ENDPOINTS:
            await self.app(scope, receive, send)
            return
        reply = AsgiReply(send)
        try:
            await self._complete(ENDPOINTS[scope["raw_path"]], scope, receive, reply)
        except GatewayError as error:
            if reply.started:
                raise
            await error_response(error)(scope, receive, send)
        except Exception as error:
            logger.error("%s %s failed", scope["method"], scope["path"], exc_info=error)
            if reply.started:
                raise
            await error_response(InternalError("the gateway failed; its log has the details"))(scope, receive, send)

    async def _complete(self, endpoint: Endpoint, scope: Scope, receive: Receive, reply: AsgiReply) -> None:
        gateway = running(self.app)
        caller = authenticated(gateway, scope)
        body = await body_of(scope, receive, gateway.settings.server.max_body_bytes)
        trace = gateway.completions.trace(caller, endpoint)
        await watched(partial(gateway.completions.answer, trace, endpoint, body), receive, reply)
