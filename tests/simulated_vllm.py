"""A peer of vLLM's server over HTTP: its routes, words, key and command line, with the simulated engine behind them.

`python -m tests.simulated_vllm` takes vLLM's arguments and passes over those that have no meaning here. At SIGTERM it
does as vLLM does with `--shutdown-timeout`: running requests get so long to finish, new connections are refused.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from serving.engine.protocol import AdapterRefused, LoraModule
from serving.engine.simulated import SimulatedEngine
from serving.errors import GatewayError
from serving.sections import Engine as EngineSettings

_OPEN = {"/health", "/metrics"}
# In the order of EngineSeconds.
_SUMS = (
    *("request_queue_time_seconds_count", "request_queue_time_seconds_sum", "request_prefill_time_seconds_sum"),
    *("request_decode_time_seconds_sum", "request_prefill_kv_computed_tokens_sum", "request_generation_tokens_sum"),
)
_ASKED = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


@dataclass
class SimulatedVllm:
    """`bad` is what it will not load; `answered` counts requests by the name that they asked for."""

    base_model: str = "base"
    key: str | None = None
    bad: frozenset[str] = frozenset()
    runtime_updating: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)
    hung: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        """A new process, with nothing loaded."""
        self.engine = SimulatedEngine(EngineSettings.model_validate(self.settings), self.base_model)
        self.engine.ready = True
        self.hung.set()

    def restart(self) -> None:
        """Another process in its place: the adapters are gone."""
        self.engine.restarts += 1  # what it was answering breaks off
        self.__post_init__()

    def app(self) -> web.Application:
        """Its routes."""
        app = web.Application(middlewares=[self._guard])
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/v1/models", self._models)
        if self.runtime_updating:
            app.router.add_post("/v1/load_lora_adapter", self._load)
            app.router.add_post("/v1/unload_lora_adapter", self._unload)
        for path in _ASKED:
            app.router.add_post(path, self._answer)
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        await self.hung.wait()
        if self.key and request.path not in _OPEN and request.headers.get("authorization") != f"Bearer {self.key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        try:
            answer: web.StreamResponse = await handler(request)
        except web.HTTPNotFound:
            return web.json_response({"detail": "Not Found"}, status=404)
        return answer

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _metrics(self, _: web.Request) -> web.Response:
        served = [f'answered{{model="{name}"}} {times}\n' for name, times in self.answered.items()]
        if (measured := await self.engine.measured()) is not None:
            sums = zip(_SUMS, astuple(measured), strict=True)
            served += [f'vllm:{name}{{model_name="{self.base_model}"}} {value}\n' for name, value in sums]
        return web.Response(text="".join(served))

    async def _models(self, _: web.Request) -> web.Response:
        loras = ({"id": name, "object": "model", "parent": self.base_model} for name in self.loaded)
        return web.json_response({"object": "list", "data": [{"id": self.base_model, "parent": None}, *loras]})

    @property
    def loaded(self) -> list[str]:
        """Adapters, by name."""
        return sorted(self.engine.slots.loaded)

    async def _load(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = body["lora_name"]
        if name in self.engine.slots.loaded:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if name in self.bad:
            return _error(500, "LoRA rank 64 is greater than max_lora_rank 16.")
        try:
            await self.engine.load_adapter(LoraModule(name, Path(body["lora_path"]), 0))
        except AdapterRefused as error:
            return _error(500, str(error))
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if name not in self.engine.slots.loaded:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        await self.engine.unload_adapter(name)
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        model = json.loads(body).get("model")
        async with self.engine.post(request.path, body) as found:
            if found.status == 200:
                self.answered[model] = self.answered.get(model, 0) + 1
            stream = json.loads(body).get("stream")
            kind = "text/event-stream" if stream and found.status == 200 else "application/json"
            answer = web.StreamResponse(status=found.status, headers={"content-type": kind})
            try:
                if not stream:
                    whole = await found.read()
                    return web.Response(body=whole, status=found.status, content_type=kind)
                await answer.prepare(request)
                async for piece in found.chunks():
                    await answer.write(piece)
            except GatewayError:
                # As a process that ends: the connection breaks, with no word about it.
                if request.transport is not None:
                    request.transport.close()
        return answer


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


@asynccontextmanager
async def served(peer: SimulatedVllm, port: int = 0, host: str = "127.0.0.1", drain_s: float = 0) -> AsyncIterator[str]:
    """The URL at which it answers."""
    runner = web.AppRunner(peer.app(), shutdown_timeout=drain_s)
    await runner.setup()
    await web.TCPSite(runner, host, port, reuse_address=True).start()
    try:
        yield f"http://{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _run(given: argparse.Namespace) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    settings = {"max_loras": given.max_loras, "max_lora_rank": given.max_lora_rank}
    settings |= {"simulated_ttft_s": given.ttft, "simulated_itl_s": given.itl, "simulated_tokens": given.tokens}
    updating = bool(given.enable_lora and os.environ.get("VLLM_ALLOW_RUNTIME_LORA_UPDATING"))
    peer = SimulatedVllm(
        given.served_model_name, os.environ.get("VLLM_API_KEY"), runtime_updating=updating, settings=settings
    )
    async with served(peer, given.port, given.host, given.shutdown_timeout):
        await ended.wait()


def main(arguments: Sequence[str]) -> None:
    """Serve until told to end."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--served-model-name", default="base")
    parser.add_argument("--enable-lora", action="store_true")
    parser.add_argument("--max-loras", type=int, default=1)
    parser.add_argument("--max-lora-rank", type=int, default=16)
    parser.add_argument("--shutdown-timeout", type=float, default=0)
    parser.add_argument("--ttft", type=float, default=0.05)
    parser.add_argument("--itl", type=float, default=0.02)
    parser.add_argument("--tokens", type=int, default=16)
    asyncio.run(_run(parser.parse_known_args(arguments)[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
