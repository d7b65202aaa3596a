"""Runs the gateway pod's containers as local processes: its commands, environment, probes and end, as Kubernetes would.

Only what belongs to a node is mapped: paths into a temporary folder, addresses onto loopback, the engine onto a fake.
"""

import asyncio
import shutil
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.k8s.manifests import BASE, ENGINE_KEY, Manifest, containers, environment, plain, pod

MODEL = "Qwen/Qwen3-8B"
PROMPT = {"model": "base", "messages": [{"role": "user", "content": "hello"}]}
CREATE_KEY = ["breakeven", "keys", "create", "--role", "operator", "--note", "first"]


@dataclass
class FakeVllm:
    """Answers what the gateway asks of vLLM; guarded as vLLM guards, and down until told otherwise."""

    up: bool = False
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def health(self, request: web.Request) -> web.Response:
        del request
        return web.Response(status=200 if self.up else 503)

    async def models(self, request: web.Request) -> web.Response:
        self._check(request)
        return web.json_response({"object": "list", "data": [{"id": MODEL}]})

    async def chat(self, request: web.Request) -> web.Response:
        self._check(request)
        assert (await request.json())["model"] == MODEL
        self.asked.set()
        await asyncio.sleep(2)
        message = {"role": "assistant", "content": "hello"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response({"id": "x", "object": "chat.completion", "choices": choices, "usage": usage})

    def _check(self, request: web.Request) -> None:
        if request.headers.get("authorization") != f"Bearer {ENGINE_KEY}":
            raise web.HTTPUnauthorized


@dataclass(frozen=True)
class Node:
    """Where the containers' paths and ports are on this machine."""

    root: Path
    engine_url: str
    port: int

    def command(self, words: list[str]) -> list[str]:
        """Programs of the image are those beside this Python."""
        return [str(Path(sys.executable).parent / words[0]), *(self._map(word) for word in words[1:])]

    def environment(self, container: Manifest) -> dict[str, str]:
        variables = {name: self._map(value) for name, value in environment(container).items()}
        if "BREAKEVEN_ENGINE__URL" in variables:
            here = {"SERVER__HOST": "127.0.0.1", "SERVER__PORT": str(self.port), "ENGINE__URL": self.engine_url}
            variables |= {f"BREAKEVEN_{name}": value for name, value in here.items()}
        return {"PATH": "/usr/bin:/bin", "TMPDIR": str(self.root / "tmp"), **variables}

    def _map(self, value: str) -> str:
        known = {"/var/lib/breakeven": "state", "/etc/breakeven": "config", "/tmp": "tmp"}  # noqa: S108  # a mount
        for path, folder in known.items():
            if value == path or value.startswith(f"{path}/"):
                return str(self.root / folder) + value.removeprefix(path)
        return value


@pytest.fixture
async def engine() -> AsyncIterator[tuple[FakeVllm, str]]:
    fake = FakeVllm()
    app = web.Application()
    app.add_routes([web.get("/health", fake.health), web.get("/v1/models", fake.models)])
    app.add_routes([web.post("/v1/chat/completions", fake.chat)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield fake, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def node(tmp_path: Path, engine: tuple[FakeVllm, str]) -> Node:
    for folder in ("state", "tmp", "work", "documents"):
        (tmp_path / folder).mkdir()
    shutil.copytree(BASE, tmp_path / "config")
    (tmp_path / "documents" / "leave.md").write_text("# Leave\n\nEverybody has thirty days of annual leave.\n")
    file = tmp_path / "config" / "breakeven.yaml"
    mapped = file.read_text().replace("/opt/breakeven/examples/handbook", str(tmp_path / "documents"))
    assert str(tmp_path) in mapped
    file.write_text(mapped)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Node(tmp_path, engine[1], probe.getsockname()[1])


@asynccontextmanager
async def started(
    node: Node, container: Manifest, command: list[str] | None = None
) -> AsyncIterator[asyncio.subprocess.Process]:
    """The container's process, or another one inside it; its output goes to a file named after it."""
    log = node.root / f"{container['name']}{'.exec' if command else ''}.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *node.command(command or container["command"]),
            env=node.environment(container),
            cwd=node.root / "work",
            stdout=output,
            stderr=asyncio.subprocess.STDOUT if command is None else asyncio.subprocess.DEVNULL,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def probe(node: Node, check: Mapping[str, Any]) -> bool:
    """One probe, as the kubelet makes it."""
    limit = aiohttp.ClientTimeout(total=check["timeoutSeconds"])
    try:
        async with aiohttp.ClientSession(timeout=limit) as session:
            answer = await session.get(f"http://127.0.0.1:{node.port}{check['httpGet']['path']}")
            return 200 <= answer.status < 400
    except (aiohttp.ClientError, TimeoutError):
        return False


async def until(node: Node, check: Mapping[str, Any], expected: bool) -> None:
    """Within the probe's own budget."""
    deadline = time.monotonic() + check["periodSeconds"] * check["failureThreshold"]
    while await probe(node, check) is not expected:
        assert time.monotonic() < deadline, f"{check} is not {expected}"
        await asyncio.sleep(0.2)


def output_holds(file: Path, text: str) -> None:
    """Blocks until `text` is in the file: to be run in a thread."""
    deadline = time.monotonic() + 20
    while text not in file.read_text():
        assert time.monotonic() < deadline, f"{file.name} never said {text!r}"
        time.sleep(0.1)


async def first_key(node: Node, waiting: Manifest) -> str:
    """What the README has the operator do while the init container waits."""
    async with started(node, waiting) as init:
        await asyncio.to_thread(output_holds, node.root / "await-operator-key.log", " ".join(CREATE_KEY))
        async with started(node, waiting, CREATE_KEY) as creating:
            assert await asyncio.wait_for(creating.wait(), 30) == 0
        assert await asyncio.wait_for(init.wait(), 20) == 0
    key = (node.root / "await-operator-key.exec.log").read_text().strip()
    assert key not in (node.root / "await-operator-key.log").read_text()
    return key


@pytest.mark.slow
async def test_the_pod_starts_serves_and_ends(node: Node, engine: tuple[FakeVllm, str]) -> None:
    spec, (fake, _) = pod(plain(), "gateway"), engine
    waiting, gateway = containers(spec).values()
    key = await first_key(node, waiting)
    url = f"http://127.0.0.1:{node.port}/v1"
    async with started(node, gateway) as process, aiohttp.ClientSession() as client:
        await until(node, gateway["startupProbe"], True)
        assert not await probe(node, gateway["readinessProbe"])
        fake.up = True
        await until(node, {**gateway["readinessProbe"], "failureThreshold": 6}, True)
        assert (await client.get(f"{url}/models")).status == 401
        client.headers["authorization"] = f"Bearer {key}"
        listed = await (await client.get(f"{url}/models")).json()
        assert {model["id"] for model in listed["data"]} == {"base", "handbook", "all-MiniLM-L6-v2"}

        fake.up = False
        await until(node, gateway["readinessProbe"], False)
        assert await probe(node, gateway["livenessProbe"])
        fake.up = True
        await until(node, gateway["readinessProbe"], True)

        running = asyncio.create_task(client.post(f"{url}/chat/completions", json=PROMPT))
        await asyncio.wait_for(fake.asked.wait(), 10)
        process.send_signal(signal.SIGTERM)
        answer = await running
        assert (answer.status, (await answer.json())["choices"][0]["message"]["content"]) == (200, "hello")
        left_s = spec["terminationGracePeriodSeconds"] - gateway["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert await asyncio.wait_for(process.wait(), left_s) == 0
    # The root filesystem is read-only: nothing may be written outside the mounts.
    assert not list((node.root / "work").iterdir())


async def test_the_waiting_container_ends_when_told(node: Node) -> None:
    waiting, _ = containers(pod(plain(), "gateway")).values()
    async with started(node, waiting) as init:
        await asyncio.to_thread(output_holds, node.root / "await-operator-key.log", "no operator key yet")
        init.terminate()
        assert await asyncio.wait_for(init.wait(), 5) == 143
