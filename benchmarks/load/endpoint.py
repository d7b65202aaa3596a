"""The endpoint of a run before its load: is it there, does it take the key, has it the model, and what is it.

A wrong URL, key or model name is one clear line and not a run of failures.
"""

from http import HTTPStatus
from typing import Any

import aiohttp
import orjson

from benchmarks.errors import EndpointError
from benchmarks.load.counted import Series
from benchmarks.load.plan import LoadPlan

_LOOK = aiohttp.ClientTimeout(total=10)
_PRICE = "breakeven_price_info"


def open_session(plan: LoadPlan) -> aiohttp.ClientSession:
    """Keep-alive connections without a limit: a pool must never hold a request back."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
        timeout=aiohttp.ClientTimeout(total=plan.timeout_s),
        headers={"Content-Type": "application/json"},
    )


async def look(session: aiohttp.ClientSession, plan: LoadPlan) -> dict[str, Any]:
    """What the endpoint says of itself, for every key of the plan. Raises EndpointError."""
    listing: dict[str, Any] = {}
    for tenant in plan.tenants or (None,):
        headers = {"Authorization": f"Bearer {tenant.key}"} if tenant else {}
        listing = await _models(session, plan, headers, tenant.name if tenant else None)
    entries = {str(entry.get("id")): entry for entry in listing["data"]}
    if missing := [target.model for target in plan.targets if entries and target.model not in entries]:
        raise EndpointError(f"{plan.endpoint} has no model {missing[0]!r}; it serves {', '.join(entries)}")
    asked = [entries[target.model] for target in plan.targets if entries]
    root, headers = plan.endpoint.removesuffix("/v1"), {}
    if plan.tenants:
        headers = {"Authorization": f"Bearer {plan.tenants[0].key}"}
    version = await _version(session, f"{root}/version", headers)
    owner = {str(entry.get("owned_by")) for entry in asked} or {""}
    kind = next((known for known in ("breakeven", "vllm") if known in owner), "other")
    return {"kind": kind, **version, "models": asked}


def price(series: Series) -> dict[str, str | float] | None:
    """The gateway's price in force, from its Prometheus page."""
    for key, usd in series.items():
        name, _, labels = key.rstrip("}").partition("{")
        if name == _PRICE:
            pairs = (label.partition("=") for label in labels.split('",'))
            return {"usd_per_hour": usd, **{label: value.strip('"') for label, _, value in pairs}}
    return None


async def _models(
    session: aiohttp.ClientSession, plan: LoadPlan, headers: dict[str, str], tenant: str | None
) -> dict[str, Any]:
    try:
        async with session.get(f"{plan.endpoint}/models", timeout=_LOOK, headers=headers) as response:
            status = response.status
            listing = await response.json(content_type=None) if status == HTTPStatus.OK else {}
    except (aiohttp.ClientError, OSError) as error:
        reason = "no answer within 10 s" if isinstance(error, TimeoutError) else str(error)
        raise EndpointError(
            f"cannot reach {plan.endpoint} ({reason}); start the server with `make serve`, or give its --url"
        ) from error
    except ValueError as error:
        raise EndpointError(f"{plan.endpoint} does not speak OpenAI's API; --url must end in /v1") from error
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        whose = f"refused the key {tenant!r}" if tenant else "wants an API key"
        raise EndpointError(
            f"{plan.endpoint} {whose} (HTTP {status}); put a valid one in BREAKEVEN_API_KEY, or give --keys a file"
        )
    if status != HTTPStatus.OK or not isinstance(listing, dict) or not isinstance(listing.get("data"), list):
        raise EndpointError(
            f"{plan.endpoint}/models answers HTTP {status} and no list of models; --url must be the base URL of an "
            "OpenAI API and usually ends in /v1"
        )
    return listing


async def _version(session: aiohttp.ClientSession, url: str, headers: dict[str, str]) -> dict[str, Any]:
    """vLLM's own way to say it, and the gateway's; nothing from anyone else."""
    try:
        async with session.get(url, timeout=_LOOK, headers=headers) as response:
            said = orjson.loads(await response.read()) if response.status == HTTPStatus.OK else {}
    except (aiohttp.ClientError, OSError, ValueError):
        return {}
    return {name: said[name] for name in ("version", "engine") if isinstance(said, dict) and name in said}
