"""The servers under load, as processes: a vLLM of our own, and the gateway in front of it.

Both are started with exactly what a stage asks for and end with it; their logs stay beside the results.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.errors import EndpointError
from benchmarks.prices import load_prices
from serving.accounting.cost import GpuPrice
from serving.settings import child_environment

_START_S = 600.0
_STOP_S = 30.0


@dataclass(frozen=True)
class Engine:
    """A vLLM server: which model folder under which name, adapters by name, and any other arguments."""

    model: Path
    name: str
    adapters: Mapping[str, Path] = field(default_factory=dict)
    rank: int = 16
    arguments: tuple[str, ...] = ()

    def command(self, port: int, *, gpu: bool) -> list[str]:
        """vLLM's command line. On a CPU its operations read "no adapter" as the last slot, so that one stays empty."""
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.model)]
        command += ["--served-model-name", self.name, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--dtype", "bfloat16", "--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
        if gpu:  # the more of it, the more requests fit into a batch; without it vLLM's default would decide
            command += ["--gpu-memory-utilization", "0.9"]
        if self.adapters:
            slots = str(len(self.adapters) + (not gpu))
            command += ["--enable-lora", "--max-lora-rank", str(self.rank), "--max-loras", slots]
            command += ["--max-cpu-loras", slots, "--lora-modules"]
            command += [f"{name}={path.resolve()}" for name, path in self.adapters.items()]
        return [*command, *self.arguments]

    def described(self) -> str:
        """Its arguments without this machine's paths, for the record."""
        loras = f"{len(self.adapters)} adapters of rank {self.rank}" if self.adapters else "no adapters"
        return f"{self.name}, {loras}, bfloat16, {' '.join(self.arguments)}"


@dataclass(frozen=True)
class Machine:
    """Where it runs: on its GPU or, to try the script, on the CPU. `logs` is where servers write."""

    gpu: bool
    gpu_name: str
    logs: Path

    @property
    def price(self) -> GpuPrice:
        """Of an hour of it, from the price file."""
        book = load_prices()
        return book.gpu_for(self.gpu_name) if self.gpu else book.cpu

    @contextmanager
    def engine(self, engine: Engine) -> Iterator[str]:
        """Its OpenAI base URL, once it answers. EndpointError with the log's last lines if it never does."""
        port = _free_port()
        environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1"}
        if not self.gpu:
            environment |= {"VLLM_CPU_KVCACHE_SPACE": "1"}
        command = engine.command(port, gpu=self.gpu)
        with self._running(command, f"engine-{engine.name}-{port}", environment) as process:
            _wait(process, f"http://127.0.0.1:{port}/health")
            yield f"http://127.0.0.1:{port}/v1"

    @contextmanager
    def gateway(self, engine_url: str, home: Path) -> Iterator[str]:
        """The gateway over a running engine, priced as this machine is."""
        port, price = _free_port(), self.price
        home.mkdir(parents=True, exist_ok=True)
        config = home / "gateway.yaml"
        cost = {"usd_per_hour": str(price.usd_per_hour), "source": price.source, "as_of": price.as_of}
        settings = {
            "engine": {"url": engine_url.removesuffix("/v1"), "max_loras": 0},
            "server": {"port": port},
            "cost": cost,
        }
        config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "breakeven", "serve", "--config", str(config)]
        with self._running(command, f"gateway-{port}", {"BREAKEVEN_HOME": str(home)}) as process:
            _wait(process, f"http://127.0.0.1:{port}/readyz")
            yield f"http://127.0.0.1:{port}/v1"

    @contextmanager
    def _running(self, command: Sequence[str], name: str, extra: Mapping[str, str]) -> Iterator["_Process"]:
        self.logs.mkdir(parents=True, exist_ok=True)
        log = self.logs / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, stdout=file, stderr=file, env=child_environment(extra), start_new_session=True
            )
        try:
            yield _Process(process, log)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
            with suppress(ProcessLookupError):  # engine cores outlive a server that was killed
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@dataclass(frozen=True)
class _Process:
    process: "subprocess.Popen[bytes]"
    log: Path


def _wait(running: _Process, url: str) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and running.process.poll() is None:
        with suppress(URLError, OSError), urlopen(url, timeout=5) as answer:  # noqa: S310  # our own server's
            if answer.status == 200:
                return
        time.sleep(0.5)
    lines = running.log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    raise EndpointError("\n".join([f"no answer at {url}; its log {running.log} ends:", *lines]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
