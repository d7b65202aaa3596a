"""What an experiment runs against, found out before it starts: model, engine, machine, and what the machine costs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.errors import EndpointError
from benchmarks.experiments.results import Fingerprint
from benchmarks.origin import cpu_model, memory_gib

_SERVER = "vllm.entrypoints.openai.api_server"
_UNKNOWN_ENGINE = "unknown"


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine behind the endpoint: `gpu` or `cpu`, its name, how many."""

    kind: str
    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Target:
    """An endpoint. `url` ends in /v1; `engine_url` is vLLM's own address, if it can be reached."""

    url: str
    machine: Machine
    engine_url: str | None = None
    api_key: str | None = field(default=None, repr=False)

    @property
    def gateway_metrics(self) -> str:
        """Where the gateway exposes its counters."""
        return self.url.rstrip("/").removesuffix("/v1") + "/metrics"

    @property
    def engine_metrics(self) -> str | None:
        """Where vLLM exposes its own."""
        return f"{self.engine_url.rstrip('/')}/metrics" if self.engine_url else None

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


@dataclass(frozen=True, slots=True)
class Known:
    """What was found out."""

    fingerprint: Fingerprint
    price: Mapping[str, Any]


async def find_out(session: aiohttp.ClientSession, target: Target, model: str) -> Known:
    """Asks the endpoint's list of models, one short question, and the engine's version.

    EndpointError when the endpoint cannot be reached, refuses the key, or does not answer the question.
    """
    listing = await _json(session, target, "GET", f"{target.url.rstrip('/')}/models")
    question = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hello"}]}
    answer = await _json(session, target, "POST", f"{target.url.rstrip('/')}/chat/completions", question)
    cost = (answer.get("breakeven") or {}).get("cost") or {}
    simulated = cost.get("basis") == "simulated"
    machine = target.machine
    return Known(
        Fingerprint(
            device=machine.name,
            device_kind=machine.kind,
            device_count=machine.count,
            cpu_model=cpu_model(),
            cores=machine.count if machine.kind == "cpu" else 0,
            memory_gib=memory_gib(),
            engine="simulated engine" if simulated else await _engine(session, target),
            base_model=_base_model(listing, model),
            simulated=simulated,
        ),
        dict(cost.get("price") or {}),
    )


async def _json(
    session: aiohttp.ClientSession, target: Target, method: str, url: str, body: Any = None
) -> dict[str, Any]:
    try:
        async with session.request(method, url, json=body, headers=target.headers) as response:
            status, text = response.status, await response.text()
            found = await response.json(content_type=None) if status == 200 else {}
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        reason = str(error) or type(error).__name__
        raise EndpointError(
            f"cannot use {url} ({reason}); start the server with `make serve`, or add --serve"
        ) from None
    if status in (401, 403):
        raise EndpointError(f"{url} refused the key (HTTP {status}); set BREAKEVEN_API_KEY")
    if not isinstance(found, dict) or not found:
        raise EndpointError(f"{url} answered HTTP {status}: {' '.join(text.split())[:200]}; is it an OpenAI endpoint?")
    return found


async def _engine(session: aiohttp.ClientSession, target: Target) -> str:
    if target.engine_url is None:
        return _UNKNOWN_ENGINE
    try:
        async with session.get(f"{target.engine_url.rstrip('/')}/version") as response:
            found = await response.json(content_type=None)
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
        return _UNKNOWN_ENGINE
    return f"vLLM {found['version']}" if isinstance(found, dict) and "version" in found else _UNKNOWN_ENGINE


def _base_model(listing: Mapping[str, Any], model: str) -> str:
    """The engine's name of the base model, as the gateway lists it; else the served model's own name."""
    entries = [entry for entry in listing.get("data", []) if isinstance(entry, dict)]
    bound = [entry.get("breakeven") or {} for entry in entries]
    plain = [held["engine_model"] for held in bound if held.get("engine_model") and not held.get("adapter")]
    return str(plain[0]) if plain else model


def engine_url_below(process_id: int) -> str | None:
    """Address of the vLLM server among the descendants of a gateway on this machine; None where /proc cannot tell."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
    for candidate in parents:
        above = candidate
        while above and above != process_id:
            above = parents.get(above, 0)
        port = _port(candidate) if above else None
        if port:
            return f"http://127.0.0.1:{port}"
    return None


def _port(process_id: int) -> str | None:
    try:
        words = Path(f"/proc/{process_id}/cmdline").read_text().split("\0")
    except (OSError, UnicodeDecodeError):
        return None
    if _SERVER in words and "--port" in words[:-1]:
        return words[words.index("--port") + 1]
    return None
