"""Management of adapter versions over HTTP, for operators; and what clients think of an answer, from everyone."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from adapters.aliases import PROD
from adapters.audit import Cause
from serving.auth import Caller
from serving.errors import BadRequest
from serving.gateway import Gateway
from serving.openai import parse_json
from serving.rollout.desk import Wish
from serving.routes.edge import caller_of, gateway_of, json_response, operator_of, read_body

router = APIRouter(prefix="/v1", tags=["Breakeven"])


def _body(**properties: str) -> dict[str, Any]:
    described = {name: {"type": kind} for name, kind in properties.items()}
    schema = {"type": "object", "properties": described, "additionalProperties": False}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_PROMOTE = {"version": "string", "alias": "string", "reason": "string", "force": "boolean"}
_ROLLBACK = {"alias": "string", "reason": "string"}
_FEEDBACK = {"request_id": "string", "vote": "string", "score": "number", "comment": "string"}


@router.get("/breakeven/adapters")
async def list_adapters(request: Request) -> Response:
    """List the installed adapter versions with their aliases and scores."""
    operator_of(request)
    data = await asyncio.to_thread(gateway_of(request).rollout.desk.listing)
    return json_response({"object": "list", "data": data})


@router.get("/breakeven/adapters/{name}")
async def show_adapter(request: Request, name: str) -> Response:
    """One adapter: versions with manifests, aliases, every decision, and the numbers of a running canary."""
    operator_of(request)
    return json_response(await gateway_of(request).rollout.show(name))


@router.post("/breakeven/adapters/{name}/promote", openapi_extra=_body(**_PROMOTE))
async def promote_adapter(request: Request, name: str) -> Response:
    """Let an alias (default: prod) mean `version`. A version that misses a threshold needs `force` and a `reason`."""
    gateway, caller = gateway_of(request), operator_of(request)
    fields = await _fields(request, gateway, _PROMOTE)
    if not isinstance(fields.get("version"), str):
        raise BadRequest("`version` must be a version or an alias", param="version")
    alias, reason = fields.get("alias") or PROD, fields.get("reason") or ""
    wish = Wish(name, fields["version"], alias, _who(caller), reason, bool(fields.get("force")))
    return json_response(await gateway.rollout.promote(wish))


@router.post("/breakeven/adapters/{name}/rollback", openapi_extra=_body(**_ROLLBACK))
async def roll_back_adapter(request: Request, name: str) -> Response:
    """Let prod mean what it meant before, or end a canary."""
    gateway, caller = gateway_of(request), operator_of(request)
    fields = await _fields(request, gateway, _ROLLBACK)
    cause = Cause(who=_who(caller), reason=fields.get("reason") or "")
    return json_response(await gateway.rollout.rollback(name, fields.get("alias") or PROD, cause))


@router.delete("/breakeven/adapters/{name}/versions/{version}")
async def remove_adapter_version(request: Request, name: str, version: str, reason: str = "") -> Response:
    """Delete a version for good."""
    gateway, caller = gateway_of(request), operator_of(request)
    await gateway.rollout.remove(name, version, Cause(who=_who(caller), reason=reason))
    return json_response({"id": f"{name}@{version}", "object": "adapter_version", "deleted": True})


@router.post("/feedback", openapi_extra=_body(**_FEEDBACK))
async def give_feedback(request: Request) -> Response:
    """Vote on an answer to your tenant: `request_id`, `vote` (`up`, `down`) or `score` (0 to 1), and a `comment`."""
    gateway, caller = gateway_of(request), caller_of(request)
    return json_response(await gateway.quality.vote(caller, await _fields(request, gateway, _FEEDBACK)))


async def _fields(request: Request, gateway: Gateway, known: dict[str, str]) -> dict[str, Any]:
    fields = parse_json(await read_body(request, gateway.settings.server.max_body_bytes))
    if unknown := sorted(set(fields) - set(known)):
        raise BadRequest(f"there is no field {unknown[0][:50]!r}; there are {', '.join(known)}", param=unknown[0])
    for name in ("version", "alias", "reason"):
        if name in known and not isinstance(fields.get(name, ""), str):
            raise BadRequest(f"`{name}` must be a text", param=name)
    if not isinstance(fields.get("force", False), bool):
        raise BadRequest("`force` must be true or false", param="force")
    return fields


def _who(caller: Caller) -> str:
    return f"key {caller.key_id} of {caller.tenant}"
