"""What OpenAI's clients can ask for and this gateway does not have: 501 with the reason, never a 404 that looks like a
wrong id or address."""

from fastapi import APIRouter, Request, WebSocket
from starlette.responses import Response

from serving.errors import NotOffered
from serving.routes.edge import caller_of, error_response

router = APIRouter(prefix="/v1", tags=["Not offered"])
_RESPONSE = "responses are not kept after they are answered"
_COMPLETION = "completions are not kept after they are answered"
_CONVERSATION = "conversations are not kept; send the earlier items in `input`"
_PERMISSION = "checkpoints are there to go on from; a finished model is everybody's here"
_GRADER = "there is no reinforcement fine-tuning; `breakeven eval adapter` measures a trained adapter"
_UPLOAD = "files are uploaded in one piece: `client.files.create`"
# (method, path, why not)
_MISSING = (
    ("GET", "/responses/{id}", _RESPONSE),
    ("DELETE", "/responses/{id}", _RESPONSE),
    ("POST", "/responses/{id}/cancel", "there is no background mode: close the connection to cancel"),
    ("GET", "/responses/{id}/input_items", _RESPONSE),
    (
        "POST",
        "/responses/input_tokens",
        "the engine does not count without generating; `usage` of an answer has the count",
    ),
    ("POST", "/responses/compact", "conversations are not compacted; send what the model should see"),
    ("GET", "/chat/completions", _COMPLETION),
    ("GET", "/chat/completions/{id}", _COMPLETION),
    ("POST", "/chat/completions/{id}", _COMPLETION),
    ("DELETE", "/chat/completions/{id}", _COMPLETION),
    ("GET", "/chat/completions/{id}/messages", _COMPLETION),
    ("POST", "/conversations", _CONVERSATION),
    ("GET", "/conversations/{id}", _CONVERSATION),
    ("POST", "/conversations/{id}", _CONVERSATION),
    ("DELETE", "/conversations/{id}", _CONVERSATION),
    ("GET", "/conversations/{id}/items", _CONVERSATION),
    ("POST", "/conversations/{id}/items", _CONVERSATION),
    ("GET", "/conversations/{id}/items/{item}", _CONVERSATION),
    ("DELETE", "/conversations/{id}/items/{item}", _CONVERSATION),
    ("GET", "/fine_tuning/checkpoints/{checkpoint}/permissions", _PERMISSION),
    ("POST", "/fine_tuning/checkpoints/{checkpoint}/permissions", _PERMISSION),
    ("DELETE", "/fine_tuning/checkpoints/{checkpoint}/permissions/{permission}", _PERMISSION),
    ("POST", "/fine_tuning/alpha/graders/run", _GRADER),
    ("POST", "/fine_tuning/alpha/graders/validate", _GRADER),
    ("POST", "/uploads", _UPLOAD),
    ("POST", "/uploads/{id}/parts", _UPLOAD),
    ("POST", "/uploads/{id}/complete", _UPLOAD),
    ("POST", "/uploads/{id}/cancel", _UPLOAD),
)


def _refuse(method: str, path: str, why: str) -> None:
    @router.api_route(path, methods=[method], name=f"{method} {path}", description=f"Not offered: {why}.")
    async def refused(request: Request) -> Response:
        caller_of(request)
        raise NotOffered(f"{method} {request.url.path} is not offered: {why}")


for missing in _MISSING:
    _refuse(*missing)


@router.websocket("/responses")
async def connect(socket: WebSocket) -> None:
    """OpenAI's persistent connection."""
    reason = "GET /v1/responses is not offered: there are no WebSockets; POST with `stream` gives the same events"
    await socket.send_denial_response(error_response(NotOffered(reason)))
