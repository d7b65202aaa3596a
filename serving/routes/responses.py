"""OpenAI's Responses: creating one. What needs them to be kept is not offered (not_offered.py)."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.routes.edge import Answer, caller_of, gateway_of, read_body

router = APIRouter(prefix="/v1/responses", tags=["OpenAI"])
_TAKES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "input"],
                    "properties": {name: {} for name in ("model", "input", "tools", "stream", "breakeven")},
                    "additionalProperties": True,
                }
            }
        },
    }
}


@router.post("", openapi_extra=_TAKES)
async def create_response(request: Request) -> Response:
    """Create a response; the tool `file_search` answers from vector stores, `breakeven` overrides retrieval."""
    gateway, caller = gateway_of(request), caller_of(request)
    body = await read_body(request, gateway.settings.server.max_body_bytes)
    trace = gateway.completions.trace(caller, "responses")
    return Answer(partial(gateway.responses.answer, trace, body))
