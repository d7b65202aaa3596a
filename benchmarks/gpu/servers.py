"""The servers under load, as processes: a vLLM of our own, and the gateway in front of it.

Both are started with exactly what a stage asks for and end with it; their logs stay beside the results.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from benchmarks.prices import load_prices
from benchmarks.processes import free_port, server
from serving.accounting.cost import GpuPrice


@dataclass(frozen=True)
class Engine:
    """A vLLM server: which model folder under which name, adapters by name, and any other arguments."""

    model: Path
    name: str
    adapters: Mapping[str, Path] = field(default_factory=dict)
    rank: int = 16
    arguments: tuple[str, ...] = ()
    dtype: str = "bfloat16"

    def command(self, port: int, *, gpu: bool) -> list[str]:
        """vLLM's command line. On a CPU its operations read "no adapter" as the last slot, so that one stays empty."""
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(self.model)]
        command += ["--served-model-name", self.name, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--dtype", self.dtype, "--enable-prompt-tokens-details", "--disable-uvicorn-access-log"]
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
        return f"{self.name}, {loras}, {self.dtype}, {' '.join(self.arguments)}"


class Site(Protocol):
    """Where the experiment runs."""

    @property
    def gpu(self) -> bool:
        """Whether it has one; else a CPU takes its place, to try the script."""
        ...

    @property
    def name(self) -> str:
        """Of the GPU, or of the CPU in its place."""
        ...

    @property
    def price(self) -> GpuPrice:
        """Of an hour of it."""
        ...

    def engine(self, engine: Engine) -> AbstractContextManager[str]:
        """Its OpenAI base URL, once it answers. EndpointError if it never does."""
        ...

    def gateway(self, engine_url: str, model: str, home: Path) -> AbstractContextManager[str]:
        """The gateway over the base model of a running engine, priced as this machine is."""
        ...


@dataclass(frozen=True)
class Machine:
    """This machine. `logs` is where servers write."""

    gpu: bool
    name: str
    logs: Path

    @property
    def price(self) -> GpuPrice:
        """See Site; from the price file."""
        book = load_prices()
        return book.gpu_for(self.name) if self.gpu else book.cpu

    @contextmanager
    def engine(self, engine: Engine) -> Iterator[str]:
        """See Site. The error has the log's last lines."""
        port = free_port()
        environment = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "PYTHONUNBUFFERED": "1"}
        if not self.gpu:
            environment |= {"VLLM_CPU_KVCACHE_SPACE": "1"}
        command = engine.command(port, gpu=self.gpu)
        log = self.logs / f"engine-{engine.name}-{port}.log"
        with server(command, f"http://127.0.0.1:{port}/health", log, environment):
            yield f"http://127.0.0.1:{port}/v1"

    @contextmanager
    def gateway(self, engine_url: str, model: str, home: Path) -> Iterator[str]:
        """See Site."""
        port, price = free_port(), self.price
        home.mkdir(parents=True, exist_ok=True)
        config = home / "gateway.yaml"
        cost = {"usd_per_hour": str(price.usd_per_hour), "source": price.source, "as_of": price.as_of}
        settings = {
            "engine": {"url": engine_url.removesuffix("/v1"), "model": model, "max_loras": 0},
            "server": {"port": port},
            "cost": cost,
        }
        config.write_text(json.dumps(settings), encoding="utf-8")  # JSON is YAML
        command = [sys.executable, "-m", "breakeven", "serve", "--config", str(config)]
        log = self.logs / f"gateway-{port}.log"
        with server(command, f"http://127.0.0.1:{port}/readyz", log, {"BREAKEVEN_HOME": str(home)}):
            yield f"http://127.0.0.1:{port}/v1"
