"""OpenAI's Responses: creating one. What needs responses to be kept is refused, with the reason."""

from functools import partial

from fastapi import APIRouter, Request
from starlette.responses import Response

from serving.errors import NotOffered
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
_NOT_KEPT = "responses are not kept after they are answered"
# (method, path, why not)
_MISSING = (
    ("GET", "/{response_id}", _NOT_KEPT),
    ("DELETE", "/{response_id}", _NOT_KEPT),
    ("POST", "/{response_id}/cancel", "there is no background mode: close the connection to cancel"),
    ("GET", "/{response_id}/input_items", _NOT_KEPT),
    ("POST", "/input_tokens", "the engine does not count without generating; `usage` of an answer has the count"),
    ("POST", "/compact", "conversations are not compacted; send what the model should see"),
)


@router.post("", openapi_extra=_TAKES)
async def create_response(request: Request) -> Response:
    """Create a response; the tool `file_search` answers from vector stores, `breakeven` overrides retrieval."""
    gateway, caller = gateway_of(request), caller_of(request)
    body = await read_body(request, gateway.settings.server.max_body_bytes)
    trace = gateway.completions.trace(caller, "responses")
    return Answer(partial(gateway.responses.answer, trace, body))


def _refuse(method: str, path: str, why: str) -> None:
    @router.api_route(path, methods=[method], name=f"{method} {path}", description=f"Not offered: {why}.")
    async def refused(request: Request) -> Response:
        caller_of(request)
        raise NotOffered(f"{method} {request.url.path} is not offered: {why}")


for missing in _MISSING:
    _refuse(*missing)
