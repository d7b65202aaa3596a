"""Keys and what they spend, over HTTP: one's own use for every key, and the budgets of a tenant's keys for operators.

Making and revoking keys is the command line's (`breakeven keys`): whoever can reach a gateway must not be able to let
others in.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import Response

from serving.auth import Caller, Key, KeyRefused
from serving.budgets.budgets import Account
from serving.errors import BadRequest, NotFound
from serving.gateway import Gateway
from serving.openai import parse_json
from serving.routes.edge import caller_of, gateway_of, json_response, operator_of, read_body
from serving.sharing import Budget, RateLimits

router = APIRouter(prefix="/v1/breakeven", tags=["Breakeven"])
_LIMITS = ("budget", *RateLimits.model_fields)


@router.get("/usage")
async def usage(request: Request) -> Response:
    """What the caller's key has spent against its budget; for operators their tenant, too."""
    gateway, caller = gateway_of(request), caller_of(request)
    budgets = gateway.runtime.budgets
    key, tenant = budgets.accounts(caller)
    await budgets.purse.refresh((key.id, tenant.id))
    found: dict[str, Any] = {"object": "usage", "currency": "USD", "key": budgets.describe(key)}
    if caller.role == "operator":
        found["tenant"] = budgets.describe(tenant)
    return json_response(found)


@router.get("/keys")
async def list_keys(request: Request) -> Response:
    """List the keys of the caller's tenant, without their secrets, with what they spent."""
    gateway, caller = gateway_of(request), operator_of(request)
    keys = [key for key in await asyncio.to_thread(gateway.keys.list) if key.caller.tenant == caller.tenant]
    await gateway.runtime.budgets.purse.refresh([f"key:{key.id}" for key in keys])
    return json_response({"object": "list", "data": [_shown(gateway, key) for key in keys]})


@router.patch("/keys/{key_id}")
async def update_key(request: Request, key_id: str) -> Response:
    """Set what a key of the caller's tenant may spend: `{"budget": {"usd_per_day", "usd_per_month", "warn_at"}}`, and
    how much it may ask: `{"requests_per_minute": 60, "tokens_per_minute": 40000}`; null for no limit of its own."""
    gateway, caller = gateway_of(request), operator_of(request)
    fields = parse_json(await read_body(request, gateway.settings.server.max_body_bytes))
    if not fields or (unknown := set(fields).difference(_LIMITS)):
        param = next(iter(unknown), "budget") if fields else "budget"
        raise BadRequest(f"send some of `{'`, `'.join(_LIMITS)}`, and nothing else", param=param)
    budget, rates = _budget(fields.get("budget")), _rates(fields)
    try:
        if "budget" in fields:
            await asyncio.to_thread(gateway.keys.set_budget, key_id, budget, caller.tenant)
        if rates.model_fields_set:
            await asyncio.to_thread(gateway.keys.set_rates, key_id, rates, caller.tenant)
    except KeyRefused:
        wanted = f"no key {key_id[:50]!r} of this tenant is in force"
        raise NotFound(f"{wanted}: GET /v1/breakeven/keys lists them") from None
    keys = await asyncio.to_thread(gateway.keys.list)
    return json_response(next(_shown(gateway, key) for key in keys if key.id == key_id))


def _budget(value: Any) -> Budget | None:
    try:
        return None if value is None else Budget.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["budget", *map(str, first["loc"])])
        raise BadRequest(f"`{where}`: {first['msg']}", param=where) from None


def _rates(fields: Mapping[str, Any]) -> RateLimits:
    try:
        return RateLimits.model_validate({name: value for name, value in fields.items() if name != "budget"})
    except ValidationError as error:
        first = error.errors()[0]
        where = str(first["loc"][0])
        raise BadRequest(f"`{where}`: {first['msg']}; null for no limit", param=where) from None


def _shown(gateway: Gateway, key: Key) -> dict[str, Any]:
    caller: Caller = key.caller
    spent = gateway.runtime.budgets.describe(Account("key", key.id, caller.budget))
    who = {"tenant": caller.tenant, "groups": sorted(caller.groups), "role": caller.role, "note": key.note}
    rates = (caller.rates or RateLimits()).model_dump()
    warn_at = None if caller.budget is None else caller.budget.warn_at
    return {"object": "key", **who, "revoked": key.revoked_at is not None, "warn_at": warn_at, **rates, **spent}
