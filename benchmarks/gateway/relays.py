"""The least that a gateway can be: FastAPI and a client library that hand bytes on, without any feature.

Run in an environment of its own: `python relays.py httpx|aiohttp PORT UPSTREAM_URL`. What our gateway does in addition
it must do for less than these.
"""

import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import httpx
import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

_HEADERS = {"content-type": "application/json"}


def _httpx_app(upstream: str) -> FastAPI:
    app, client = FastAPI(), httpx.AsyncClient(limits=httpx.Limits(max_connections=None), timeout=600)

    @app.post("/v1/chat/completions")
    async def relay(request: Request) -> StreamingResponse:
        sent = client.build_request("POST", upstream, content=await request.body(), headers=_HEADERS)
        response = await client.send(sent, stream=True)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in response.aiter_raw():
                yield piece
            await response.aclose()

        return StreamingResponse(pieces(), response.status_code, media_type=response.headers["content-type"])

    return app


def _aiohttp_app(upstream: str) -> FastAPI:
    app, kept = FastAPI(), list[aiohttp.ClientSession]()

    @app.post("/v1/chat/completions")
    async def relay(request: Request) -> StreamingResponse:
        if not kept:
            kept.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        response = await kept[0].post(upstream, data=await request.body(), headers=_HEADERS)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in response.content.iter_any():
                yield piece
            response.release()

        return StreamingResponse(pieces(), response.status, media_type=response.headers["content-type"])

    return app


if __name__ == "__main__":
    kind, port, url = sys.argv[1:]
    apps: dict[str, Any] = {"httpx": _httpx_app, "aiohttp": _aiohttp_app}
    served = apps[kind](url + "/v1/chat/completions")
    uvicorn.run(served, host="127.0.0.1", port=int(port), log_level="warning", access_log=False)
