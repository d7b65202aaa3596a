"""The ASGI application and the process around it: errors become OpenAI error objects, signals become an orderly end."""

import asyncio
import gc
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.responses import Response

from serving.auth import KeyStore
from serving.errors import BadRequest, GatewayError, InternalError, from_status
from serving.gateway import Gateway
from serving.listening import Server as ServerSettings
from serving.routes import (
    adapters,
    economics,
    files,
    fine_tuning,
    inference,
    keys,
    management,
    measures,
    not_offered,
    operations,
    responses,
    vector_stores,
)
from serving.routes.edge import error_response
from serving.routes.hot import HotProtocol
from serving.settings import SettingsError

logger = logging.getLogger("breakeven")


def create_app(gateway: Gateway | None = None) -> FastAPI:
    """The application; `gateway` may be set later as `app.state.gateway`."""
    # No interactive pages: they load their scripts from other hosts.
    app = FastAPI(title="Breakeven", version="0.1.0", docs_url=None, redoc_url=None)
    app.state.gateway = gateway
    openai = (inference, responses, files, vector_stores, fine_tuning)
    for part in (*openai, management, measures, economics, keys, adapters, operations, not_offered):
        app.include_router(part.router)
    app.openapi = partial(_openapi, app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    app.add_exception_handler(GatewayError, _gateway_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _unexpected_error)
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    # FastAPI documents a 422 of its own for every route with parameters; we send OpenAI's error object instead.
    schema = get_openapi(title=app.title, version=app.version, routes=app.routes)
    schema["components"] = {"schemas": {"Error": GatewayError.schema()}}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path in schema["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            operation["responses"]["default"] = {"description": "OpenAI's error object", "content": content}
    return schema


async def _gateway_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, GatewayError)
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message = f"{request.method} {request.url.path}: {error.detail}"
    if error.status_code == 404:
        message += "; the API is under /v1, see /openapi.json"
    answer = error_response(from_status(error.status_code, message))
    answer.headers.update(error.headers or {})
    return answer


async def _validation_error(request: Request, error: Exception) -> Response:
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return error_response(BadRequest(str(first["msg"]), param=".".join(map(str, first["loc"][1:]))))


async def _unexpected_error(request: Request, error: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    answer = error_response(InternalError("the gateway failed; its log has the details"))
    # uvicorn does that after any exception; a client that is not told sends its next request into nothing.
    answer.headers["connection"] = "close"
    return answer


def check_bind(server: ServerSettings, keys: KeyStore) -> None:
    """Raises SettingsError for an address that others can reach while nobody needs a key."""
    with suppress(ValueError):
        if ip_address(server.host).is_loopback:
            return
    if server.host != "localhost" and not keys.any():
        raise SettingsError(
            f"server.host {server.host} can be reached from other machines, and no API key exists. "
            "Create one first (`breakeven keys create --role operator`), or bind to 127.0.0.1"
        )


def bind(server: ServerSettings) -> socket.socket:
    """The listening socket, taken before anything slow starts. Raises SettingsError if the port is taken."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it a reader waits 40 ms for an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((server.host, server.port))
    except OSError as error:
        listener.close()
        raise SettingsError(
            f"cannot listen on {server.host}:{server.port}: {error.strerror}. "
            "Choose another port (`make serve PORT=8123`) or stop what uses it"
        ) from None
    listener.listen(2048)
    return listener


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals are ours: engine and store must end after the last request, not before.
        yield


def http_config(app: FastAPI, server: ServerSettings) -> uvicorn.Config:
    """How it is served: uvicorn parses in C, and waits for clients that read slowly."""
    return uvicorn.Config(
        app,
        http=HotProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        timeout_graceful_shutdown=round(server.shutdown_s),
    )


def settle() -> None:
    """Call it once everything is loaded: the garbage collector need not look at that again, which takes it longer than
    most requests, and may wait for more than a few of those. And a thread that computes, such as the ledger's, lets
    the event loop go on after half a millisecond and not after five: a first token may be waiting. `run` undoes it."""
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


async def run(
    app: FastAPI, listener: socket.socket, server: ServerSettings, ready: Callable[[], Awaitable[None]]
) -> None:
    """Serve on `listener` until SIGINT or SIGTERM; `ready` runs beside it and may raise to end it.

    Running requests get `server.shutdown_s` seconds at the end; a second signal ends them at once.
    """
    config = http_config(app, server)
    # It repeats, with a traceback, what our own handler has logged or what a cancelled request is not worth.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    http = _Server(config)

    def end() -> None:
        logger.info("stopping; running requests get %.0f s, a second Ctrl-C ends them at once", server.shutdown_s)
        http.force_exit = http.should_exit
        http.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    serving = asyncio.create_task(http.serve(sockets=[listener]))
    preparing = asyncio.ensure_future(ready())
    await asyncio.wait({serving, preparing}, return_when=asyncio.FIRST_COMPLETED)
    if preparing.done() and preparing.exception() is not None:
        http.should_exit = True
    try:
        await serving
    finally:
        if not preparing.done():
            preparing.cancel()
        # Libraries written in C++ print what the interpreter could not free at its end.
        gc.unfreeze()
    with suppress(asyncio.CancelledError):
        await preparing
