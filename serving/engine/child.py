"""A vLLM server as a supervised child process.

It listens on loopback under a random key, so the only way to it is through the gateway. A crash is noticed at once
(the process ends) or within a second (its health check fails), answered with 503 while it lasts, and mended by a
restart with back-off. Adapters are loaded once it answers and before any request, one by one: a bad one on the command
line would keep the whole engine down.
"""

import asyncio
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

from serving.engine import lora_plugin
from serving.engine.arguments import cpu_variables, server_command
from serving.engine.device import Device
from serving.engine.loras import Loras, linear_modules, lora_arguments
from serving.engine.orphan import die_with_parent
from serving.engine.protocol import AdapterRefused, EngineFailed, EngineResponse, LoraModule, Progress
from serving.engine.seconds import EngineSeconds
from serving.engine.vllm import VllmClient
from serving.errors import EngineUnavailable
from serving.sections import Engine as EngineSettings
from serving.settings import child_environment

logger = logging.getLogger("breakeven.engine")

_POLL_S = 0.5
# Health checks in a row without any answer, each as long as engine.connect_timeout_s, until it counts as hung.
_SILENT_AFTER = 6
_BACKOFF_S = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
_STOP_S = 10.0
# A line of vLLM's log -> what the user is waiting for.
_STAGES = (
    ("Application startup complete", "engine is up"),
    ("Starting vLLM", "opening the API"),
    ("Warming up", "compiling and warming up (about 45 s the first time, then cached)"),
    ("Capturing", "capturing CUDA graphs"),
    ("torch.compile", "compiling"),
    ("Loading safetensors", "loading weights"),
    ("Starting to load model", "loading weights"),
    ("Initializing a V1 LLM engine", "initialising the engine core"),
    ("Resolved architecture", "starting the engine core"),
)


class VllmChild:
    """Starts, watches and restarts one vLLM server."""

    simulated = False

    def __init__(
        self,
        settings: EngineSettings,
        *,
        model: str,
        base_model: str,
        device: Device,
        loras: Loras | None,
        home: Path,
    ) -> None:
        self._settings = settings
        self._model = model
        self._device = device
        # None: started without adapters, which is cheaper for all requests.
        self._serves_loras = loras is not None
        self._loras = loras or Loras()
        grouped = settings.cpu_lora_plugin and lora_plugin.active(child_environment({}))
        self._spare_slot = device.kind == "cpu" and not grouped
        self._loras.room = settings.max_cpu_loras if self._spare_slot else None
        self._local = Path(model).is_dir()
        self._modules = linear_modules(Path(model)) if self._local and device.kind == "cpu" else []
        self._cache = home / "cache"
        self._log = home / "logs" / "engine.log"
        self._process: asyncio.subprocess.Process | None = None
        self._client: VllmClient | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self.base_model = base_model
        self.restarts = 0

    @property
    def ready(self) -> bool:
        """True while the present process answers its health check."""
        return self._client is not None and self._client.ready

    @property
    def scores_text(self) -> bool:
        """See Engine.scores_text and linear_modules."""
        return not self._serves_loras or self._device.kind != "cpu" or bool(self._modules)

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        return self._process.pid if self._process is not None else None

    async def start(self, progress: Progress) -> None:
        """Return when the first process answers. Raises EngineFailed with its last log lines if it ends instead."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._log.write_bytes(b"")
        await self._spawn()
        await self._until_ready(progress)
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """End the child and whatever it started."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await self._supervisor
        await self._end()

    async def measured(self) -> EngineSeconds | None:
        """See Engine.measured."""
        return None if self._client is None else await self._client.measured()

    def post(self, path: str, body: bytes) -> AbstractAsyncContextManager[EngineResponse]:
        """See Engine.post."""
        client = self._client or VllmClient(self._settings, "http://127.0.0.1:9", None)
        return client.post(path, body)

    def command(self, port: int) -> list[str]:
        """What is started; it must answer /health on `port`."""
        loras: list[str] = []
        if self._serves_loras:
            wanted = self._loras.wanted.values()
            loras = lora_arguments(self._settings, wanted, spare=self._spare_slot, modules=self._modules)
        cpu = self._device.kind == "cpu"
        return server_command(self._settings, self._model, self.base_model, loras, port, cpu=cpu)

    async def load_adapter(self, lora: LoraModule) -> None:
        """See Engine.load_adapter."""
        if not self._serves_loras:
            raise AdapterRefused(
                "the engine was started without adapters: restart the gateway, with engine.max_loras above 0"
            )
        await self._connected().load_adapter(lora)

    async def unload_adapter(self, name: str) -> None:
        """See Engine.unload_adapter."""
        await self._connected().unload_adapter(name)

    def refusal(self, name: str) -> str | None:
        """See Engine.refusal."""
        return self._loras.refusal(name)

    def lacking(self, name: str) -> Mapping[str, str]:
        """See Engine.lacking."""
        del name
        return {}

    def _connected(self) -> VllmClient:
        if self._client is None or not self._client.ready:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=5)
        return self._client

    async def _spawn(self) -> None:
        port, key = _free_port(), secrets.token_urlsafe(32)
        command = self.command(port)
        environment = {
            "VLLM_API_KEY": key,
            "VLLM_CACHE_ROOT": str(self._cache.resolve() / "vllm"),
            "VLLM_NO_USAGE_STATS": "1",
            "PYTHONUNBUFFERED": "1",
        }
        if self._device.kind == "cpu":
            environment |= cpu_variables(self._settings, self._device, child_environment({}))
        if self._serves_loras:
            # Its endpoints for loading adapters are behind the same random key as all others.
            environment["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "True"
        if self._local:
            environment["HF_HUB_OFFLINE"] = "1"
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(environment),
                # Its own session, so that Ctrl-C reaches it through us and in order.
                start_new_session=True,
                preexec_fn=die_with_parent(),
            )
        self._client = VllmClient(self._settings, f"http://127.0.0.1:{port}", key, self.base_model, self._loras)
        await self._client.open()

    async def _until_ready(self, progress: Progress) -> None:
        assert self._client is not None
        assert self._process is not None
        deadline, stage = time.monotonic() + self._settings.startup_timeout_s, ""
        while await self._client.health() != "well":
            if self._process.returncode is not None:
                raise EngineFailed(f"vLLM ended with status {self._process.returncode}.\n{self._advice()}")
            if time.monotonic() > deadline:
                await self._end()
                raise EngineFailed(f"vLLM was not ready in {self._settings.startup_timeout_s:.0f} s.\n{self._advice()}")
            if (now := self._stage()) != stage:
                stage = now
                progress(stage)
            await asyncio.sleep(_POLL_S)
        progress("loading adapters")
        try:
            await self._client.restore()
        except EngineUnavailable as error:
            raise EngineFailed(f"vLLM ended while adapters were loaded: {error}.\n{self._advice()}") from None
        self._client.ready = True

    async def _supervise(self) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            await self._until_broken()
            logger.warning("the engine has stopped; requests get 503 until it is back")
            await self._end()
            # A process that ran for a while was fine: the next crash starts the back-off anew.
            failures = 0 if time.monotonic() - started > _BACKOFF_S[-1] else failures + 1
            await asyncio.sleep(_BACKOFF_S[min(failures, len(_BACKOFF_S) - 1)])
            self.restarts += 1
            try:
                await self._spawn()
                await self._until_ready(lambda stage: logger.info("engine restart: %s", stage))
                logger.warning("the engine is back")
            except (EngineFailed, OSError) as error:
                logger.error("the engine could not be restarted, the next try follows: %s", error)

    async def _until_broken(self) -> None:
        process, client = self._process, self._client
        silent = 0
        while process and client and process.returncode is None and silent < _SILENT_AFTER and client.ready:
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), timeout=_POLL_S)
                return
            health = await client.health()
            if health == "dead":
                return
            silent = silent + 1 if health == "silent" else 0

    async def _end(self) -> None:
        if self._client is not None:
            await self._client.stop()
        process = self._process
        if process is None:
            return
        # The group is signalled even if its leader is gone: engine cores outlive a killed server.
        _signal_group(process.pid, signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), timeout=_STOP_S)
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()
        self._process = None

    def _stage(self) -> str:
        text = self._tail(20_000)
        found = [(text.rfind(mark), stage) for mark, stage in _STAGES if mark in text]
        return max(found)[1] if found else "importing vLLM"

    def _tail(self, size: int) -> str:
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - size))
            return log.read().decode("utf-8", "replace")

    def _advice(self) -> str:
        lines = [line for line in self._tail(8000).splitlines() if line.strip()][-15:]
        return "\n".join(["Its last lines:", *lines, f"The whole log: {self._log}"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)
