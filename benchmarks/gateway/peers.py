"""The gateways that are compared: how each is installed, configured and started."""

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

CHAT = "/v1/chat/completions"
# The same path in another spelling: the gateway's two hot routes know the usual one only, FastAPI knows both.
CHAT_BY_FRAMEWORK = "/v1/chat/%63ompletions"
_RELAYS = Path(__file__).with_name("relays.py")
_ROOT = Path(__file__).parents[2]
_CONTEXT = "You answer for a company, from its handbook, briefly and to the point. " * 29


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway is to listen, what it is in front of, and the folder for its files."""

    folder: Path
    port: int
    upstream: str


@dataclass(frozen=True, slots=True)
class Launch:
    """How it is started, the key that clients send, and what answers 200 once it is ready."""

    command: tuple[str, ...]
    key: str = "sk-1234"
    ready: str = "/v1/models"
    environment: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """`packages`: what is installed into its environment, none for our own. `features`: what it does to a request."""

    name: str
    features: str
    launch: Callable[[Path, Place], Launch]  # of its environment's bin folder and its place
    packages: tuple[str, ...] = ()
    path: str = CHAT
    soak: bool = False


def _ours(_: Path, place: Place) -> Launch:
    config = place.folder / "breakeven.json"
    settings = {
        "home": str(place.folder / "home"),
        "server": {"port": place.port},
        "engine": {"url": place.upstream, "model": "mock"},
        "cost": {"usd_per_hour": "1", "source": "made up for the benchmark", "as_of": "2026-01-01"},
        "models": {"mock": {"system_prompt": _CONTEXT[:2048]}},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    run = ["env", f"PYTHONPATH={_ROOT}", sys.executable, "-m", "breakeven"]
    create = [*run, "keys", "create", "--tenant", "bench", "--config", str(config)]
    made = subprocess.run(create, capture_output=True, text=True, check=False)
    found = re.search(r"bk-[\w-]+", made.stdout + made.stderr)
    if found is None:
        raise BenchmarkError(f"no key was made: {made.stderr[-500:]}")
    return Launch((*run, "serve", "--config", str(config)), found.group(0), "/readyz")


def _relay(library: str) -> Callable[[Path, Place], Launch]:
    def launch(programs: Path, place: Place) -> Launch:
        command = (str(programs / "python"), str(_RELAYS), library, str(place.port), place.upstream)
        return Launch(command, ready="/openapi.json")

    return launch


def _litellm(programs: Path, place: Place) -> Launch:
    config = place.folder / "litellm.json"
    parameters = {"model": "openai/mock", "api_base": f"{place.upstream}/v1", "api_key": "none"}
    models = [{"model_name": "mock", "litellm_params": parameters}]
    key = f"sk-{secrets.token_hex(24)}"  # it refuses to start with a well-known one
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": key}}))
    command = (str(programs / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(place.port))
    quiet = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
    return Launch((*command, "--num_workers", "1"), ready="/health/liveliness", environment=quiet, key=key)


def _router(programs: Path, place: Place) -> Launch:
    listen = ("--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(place.port + 1000))
    workers = ("--worker-urls", place.upstream, "--policy", "round_robin", "--log-level", "error")
    return Launch((str(programs / "vllm-router"), *listen, *workers), ready="/health")


def _production_stack(programs: Path, place: Place) -> Launch:
    listen = ("--host", "127.0.0.1", "--port", str(place.port))
    backends = ("--service-discovery", "static", "--static-backends", place.upstream, "--static-models", "mock")
    return Launch((str(programs / "vllm-router"), *listen, *backends, "--routing-logic", "roundrobin"))


_WEB = ("fastapi", "uvicorn[standard]", "aiohttp", "httpx")
_OUR_FEATURES = "key, served model, parse, 2 KB of context, usage, cost, metrics, ledger, log"


def peers(production_stack: Path | None) -> tuple[Peer, ...]:
    """All of them. vLLM's production-stack is in no package index: its router needs a checkout."""
    found = (
        Peer("Breakeven", _OUR_FEATURES, _ours, soak=True),
        Peer("Breakeven, as a FastAPI route", _OUR_FEATURES, _ours, path=CHAT_BY_FRAMEWORK),
        Peer("LiteLLM proxy", "key, served model, parse, usage", _litellm, ("litellm[proxy]",)),
        Peer("FastAPI + aiohttp relay", "none", _relay("aiohttp"), _WEB),
        Peer("vllm-router (Rust)", "routing, metrics", _router, ("vllm-router",)),
        Peer("FastAPI + httpx relay", "none", _relay("httpx"), _WEB),
    )
    if production_stack is None:
        return found
    router = Peer("production-stack router", "routing, metrics", _production_stack, (str(production_stack),))
    return (*found, router)
