"""OpenAI's inference endpoints."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.gateway import Gateway
from serving.openai import Endpoint
from serving.routes.edge import Answer, caller_of, gateway_of, json_response, read_body


def _takes(*required: str) -> dict[str, Any]:
    # Narrow on purpose: whatever else OpenAI and vLLM know is passed through.
    schema: dict[str, Any] = {
        "type": "object",
        "required": list(required),
        "properties": {name: {} for name in (*required, "breakeven")},
        "additionalProperties": True,
    }
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


router = APIRouter(prefix="/v1", tags=["OpenAI"])


@router.post("/chat/completions", openapi_extra=_takes("model", "messages"))
async def chat_completions(request: Request) -> Response:
    """Create a chat completion; takes everything vLLM does, and `breakeven` to override retrieval."""
    return await _complete(request, "chat")


@router.post("/completions", openapi_extra=_takes("model", "prompt"))
async def completions(request: Request) -> Response:
    """Create a text completion."""
    return await _complete(request, "completions")


async def _complete(request: Request, endpoint: Endpoint) -> Response:
    gateway = gateway_of(request)
    caller = caller_of(request)
    body = await read_body(request, gateway.settings.server.max_body_bytes)
    trace = gateway.completions.trace(caller, endpoint)
    return Answer(partial(gateway.completions.answer, trace, endpoint, body))


@router.get("/models")
async def list_models(request: Request) -> Response:
    """List the served models and the embedding model."""
    caller_of(request)
    gateway = gateway_of(request)
    names = (*gateway.catalogue.names, gateway.knowledge.embedding_model)
    return json_response({"object": "list", "data": [_describe(gateway, name) for name in names]})


def _describe(gateway: Gateway, name: str) -> dict[str, object]:
    if name == gateway.knowledge.embedding_model:
        return {"id": name, "object": "model", "created": gateway.catalogue.created, "owned_by": "breakeven"}
    return gateway.catalogue.describe(name)


@router.get("/models/{model:path}")
async def retrieve_model(request: Request, model: str) -> Response:
    """Describe one served model."""
    caller_of(request)
    return json_response(_describe(gateway_of(request), model))


@router.post("/embeddings", openapi_extra=_takes("model", "input"))
async def embeddings(request: Request) -> Response:
    """Embed texts with the retrieval embedder."""
    gateway = gateway_of(request)
    caller = caller_of(request)
    body = await read_body(request, gateway.settings.server.max_body_bytes)
    trace = gateway.completions.trace(caller, "embeddings")
    return Answer(partial(gateway.knowledge.embed, trace, body))
