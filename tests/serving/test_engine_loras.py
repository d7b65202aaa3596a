"""What the client does with a vLLM's adapters when that server refuses some, restarts, or has no room left."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from serving.engine.loras import Loras
from serving.engine.protocol import AdapterRefused, LoraModule
from serving.engine.vllm import VllmClient
from serving.errors import EngineUnavailable
from serving.sections import Engine as EngineSettings


@dataclass
class Server:
    """vLLM's endpoints for adapters, with its words; `bad` is what it will not load."""

    loaded: list[str] = field(default_factory=list)
    bad: frozenset[str] = frozenset()
    runtime_updating: bool = True

    async def load(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if not self.runtime_updating:
            return web.json_response({"detail": "Not Found"}, status=404)
        if name in self.loaded:
            return _error(400, f"The lora adapter '{name}' has already been loaded.")
        if name in self.bad:
            return _error(500, "LoRA rank 64 is greater than max_lora_rank 16.")
        self.loaded.append(name)
        return web.Response(text="Success")

    async def unload(self, request: web.Request) -> web.Response:
        name = (await request.json())["lora_name"]
        if name not in self.loaded:
            return _error(404, f"The lora adapter '{name}' cannot be found.")
        self.loaded.remove(name)
        return web.Response(text="Success")


def _error(status: int, message: str) -> web.Response:
    return web.json_response({"error": {"message": message, "code": status}}, status=status)


def lora(name: str) -> LoraModule:
    return LoraModule(name, Path("/adapters") / name, 8)


@asynccontextmanager
async def connected(server: Server, loras: Loras) -> AsyncIterator[VllmClient]:
    async def well(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"data": [{"id": "base"}]}))

    app = web.Application()
    app.router.add_get("/health", well)
    app.router.add_get("/v1/models", well)
    app.router.add_post("/v1/load_lora_adapter", server.load)
    app.router.add_post("/v1/unload_lora_adapter", server.unload)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = VllmClient(EngineSettings.model_validate({}), f"http://127.0.0.1:{port}", None, "base", loras)
    await client.start(lambda _: None)
    try:
        yield client
    finally:
        await client.stop()
        await runner.cleanup()


def wanted(*names: str) -> Loras:
    return Loras({name: lora(name) for name in names})


async def test_one_bad_adapter_does_not_keep_the_engine_down() -> None:
    server = Server(bad=frozenset({"b@2"}))
    async with connected(server, wanted("a@1", "b@2", "c@3")) as client:
        assert client.ready
        assert server.loaded == ["a@1", "c@3"]
        assert [client.refusal(name) for name in ("a@1", "c@3")] == [None, None]
        assert "rank 64" in (client.refusal("b@2") or "")
        # It is tried again when somebody asks for it, and works once its cause is gone.
        with pytest.raises(AdapterRefused, match="rank 64"):
            await client.load_adapter(lora("b@2"))
        server.bad = frozenset()
        await client.load_adapter(lora("b@2"))
        assert client.refusal("b@2") is None


async def test_a_new_process_gets_everything_again() -> None:
    loras = wanted("a@1")
    async with connected(Server(), loras) as client:
        await client.load_adapter(lora("b@2"))
    loras.resident.clear()
    server = Server()
    async with connected(server, loras):
        assert server.loaded == ["a@1", "b@2"]


async def test_what_the_server_has_already_is_fine() -> None:
    async with connected(Server(loaded=["a@1"]), wanted("a@1")) as client:
        assert client.refusal("a@1") is None
        await client.unload_adapter("a@1")
        await client.unload_adapter("a@1")
        assert client.refusal("a@1") is not None


async def test_on_a_cpu_the_last_slot_is_never_given_away() -> None:
    server, loras = Server(), Loras(room=2)
    async with connected(server, loras) as client:
        await client.load_adapter(lora("a@1"))
        await client.load_adapter(lora("b@2"))
        with pytest.raises(AdapterRefused, match="max_cpu_loras"):
            await client.load_adapter(lora("c@3"))
        # Unloading does not free a slot of vLLM's, so it is not done; what has one can be asked for again.
        await client.unload_adapter("a@1")
        assert client.refusal("a@1") is not None
        await client.load_adapter(lora("a@1"))
        assert server.loaded == ["a@1", "b@2"]


async def test_a_server_without_runtime_updating_says_what_it_needs() -> None:
    async with connected(Server(runtime_updating=False), Loras()) as client:
        with pytest.raises(AdapterRefused, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            await client.load_adapter(lora("a@1"))


async def test_a_server_that_is_gone_is_unavailable() -> None:
    async with connected(Server(), Loras()) as client:
        pass
    with pytest.raises(EngineUnavailable):
        await client.load_adapter(lora("a@1"))
