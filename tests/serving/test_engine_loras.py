"""What the client does with a vLLM's adapters when that server refuses some, restarts, or has no room left."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from serving.engine.loras import Loras
from serving.engine.protocol import AdapterRefused
from serving.engine.vllm import VllmClient
from serving.errors import EngineUnavailable
from serving.sections import Engine as EngineSettings
from tests.serving.adapter_folders import lora
from tests.simulated_vllm import SimulatedVllm, served


@asynccontextmanager
async def connected(server: SimulatedVllm, loras: Loras) -> AsyncIterator[VllmClient]:
    async with served(server) as url:
        client = VllmClient(EngineSettings.model_validate({}), url, None, "base", loras)
        await client.start(lambda _: None)
        try:
            yield client
        finally:
            await client.stop()


def wanted(folder: Path, *names: str) -> Loras:
    return Loras({name: lora(folder, name) for name in names})


async def test_one_bad_adapter_does_not_keep_the_engine_down(tmp_path: Path) -> None:
    server = SimulatedVllm(bad=frozenset({"b@2"}))
    async with connected(server, wanted(tmp_path, "a@1", "b@2", "c@3")) as client:
        assert client.ready
        assert server.loaded == ["a@1", "c@3"]
        assert [client.refusal(name) for name in ("a@1", "c@3")] == [None, None]
        assert "rank 64" in (client.refusal("b@2") or "")
        # It is tried again when somebody asks for it, and works once its cause is gone.
        with pytest.raises(AdapterRefused, match="rank 64"):
            await client.load_adapter(lora(tmp_path, "b@2"))
        server.bad = frozenset()
        await client.load_adapter(lora(tmp_path, "b@2"))
        assert client.refusal("b@2") is None


async def test_a_new_process_gets_everything_again(tmp_path: Path) -> None:
    loras = wanted(tmp_path, "a@1")
    async with connected(SimulatedVllm(), loras) as client:
        await client.load_adapter(lora(tmp_path, "b@2"))
    server = SimulatedVllm()
    async with connected(server, loras):
        assert server.loaded == ["a@1", "b@2"]


async def test_what_the_server_has_already_is_fine(tmp_path: Path) -> None:
    server = SimulatedVllm()
    await server.engine.load_adapter(lora(tmp_path, "a@1"))
    async with connected(server, wanted(tmp_path, "a@1")) as client:
        assert client.refusal("a@1") is None
        await client.unload_adapter("a@1")
        await client.unload_adapter("a@1")
        assert client.refusal("a@1") is not None


async def test_on_a_cpu_the_last_slot_is_never_given_away(tmp_path: Path) -> None:
    server, loras = SimulatedVllm(), Loras(room=2)
    async with connected(server, loras) as client:
        await client.load_adapter(lora(tmp_path, "a@1"))
        await client.load_adapter(lora(tmp_path, "b@2"))
        with pytest.raises(AdapterRefused, match="max_cpu_loras"):
            await client.load_adapter(lora(tmp_path, "c@3"))
        # Unloading does not free a slot of vLLM's, so it is not done; what has one can be asked for again.
        await client.unload_adapter("a@1")
        assert client.refusal("a@1") is not None
        await client.load_adapter(lora(tmp_path, "a@1"))
        assert server.loaded == ["a@1", "b@2"]


async def test_a_server_without_runtime_updating_says_what_it_needs(tmp_path: Path) -> None:
    async with connected(SimulatedVllm(runtime_updating=False), Loras()) as client:
        with pytest.raises(AdapterRefused, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING"):
            await client.load_adapter(lora(tmp_path, "a@1"))


async def test_a_server_that_is_gone_is_unavailable(tmp_path: Path) -> None:
    async with connected(SimulatedVllm(), Loras()) as client:
        pass
    with pytest.raises(EngineUnavailable):
        await client.load_adapter(lora(tmp_path, "a@1"))
