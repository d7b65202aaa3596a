"""One error tree for the gateway, each leaf an OpenAI error object.

Every foreign error (engine, retrieval, parsing) is mapped to one of these before it reaches a client, so that a
client never sees a traceback and always learns what to do next.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from adapters import errors as adapters
from retrieval import errors as retrieval


class GatewayError(Exception):
    """Base of everything a client can be told. `status` is the HTTP status, `kind` OpenAI's error `type`."""

    status = 500
    kind = "api_error"
    code: str | None = None
    # Seconds after which trying again makes sense, unless it is said better; every 503 has some.
    retry_s: float | None = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = self.retry_s if retry_after_s is None else retry_after_s
        self.request_id: str | None = None
        if code is not None:
            self.code = code

    @staticmethod
    def schema() -> dict[str, Any]:
        """JSON schema of `body`."""
        text: dict[str, Any] = {"type": "string"}
        optional = {"type": ["string", "null"]}
        fields = {"message": text, "type": text, "param": optional, "code": optional}
        inner = {"type": "object", "properties": fields, "required": list(fields)}
        return {"type": "object", "properties": {"error": inner}, "required": ["error"]}

    def body(self) -> dict[str, Any]:
        """The OpenAI error object: {"error": {message, type, param, code}}."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Response headers that belong to the error (Retry-After, WWW-Authenticate)."""
        found = {} if self.request_id is None else {"x-request-id": self.request_id}
        if self.retry_after_s is not None:
            found["retry-after"] = str(max(1, round(self.retry_after_s)))
        return found

    def event(self) -> bytes:
        """The error as a server-sent event, for a stream whose status line has already gone out."""
        return b"data: " + orjson.dumps(self.body()) + b"\n\n"


class BadRequest(GatewayError):
    """The client's request cannot be served as it is."""

    status = 400
    kind = "invalid_request_error"


class ContextTooLong(BadRequest):
    """The prompt (with any retrieved passages) does not fit the engine's context."""

    code = "context_length_exceeded"


class Unauthenticated(GatewayError):
    """No key, or a key we do not know."""

    status = 401
    kind = "authentication_error"
    code = "invalid_api_key"

    def headers(self) -> dict[str, str]:
        """Adds the challenge that HTTP asks of a 401."""
        return {**super().headers(), "www-authenticate": "Bearer"}


class Forbidden(GatewayError):
    """A known caller without the role for this."""

    status = 403
    kind = "permission_error"
    code = "insufficient_role"


class NotFound(GatewayError):
    """The named thing does not exist for this caller."""

    status = 404
    kind = "invalid_request_error"


class UnknownModel(NotFound):
    """The served model does not exist."""

    code = "model_not_found"


class MethodNotAllowed(GatewayError):
    """The path exists, the method does not."""

    status = 405
    kind = "invalid_request_error"


class Conflict(GatewayError):
    """The request contradicts the present state."""

    status = 409
    kind = "invalid_request_error"


class BodyTooLarge(GatewayError):
    """The request body is over the configured limit."""

    status = 413
    kind = "invalid_request_error"
    code = "body_too_large"


class Unprocessable(GatewayError):
    """The document was received whole but cannot be read."""

    status = 422
    kind = "invalid_request_error"
    code = "unreadable_document"


class Overloaded(GatewayError):
    """The engine's queue is full."""

    status = 429
    kind = "rate_limit_error"
    code = "engine_overloaded"


class InternalError(GatewayError):
    """A fault of ours; the log has the details under the request id."""


class NotOffered(GatewayError):
    """A part of OpenAI's API that this gateway does not have; the message says why."""

    status = 501
    kind = "invalid_request_error"
    code = "not_implemented"

    def headers(self) -> dict[str, str]:
        """Tells OpenAI's client that asking again will not help, which it would do for any other 5xx."""
        return {**super().headers(), "x-should-retry": "false"}


class UpstreamFailed(GatewayError):
    """The engine answered with a fault, or broke off in the middle of an answer."""

    status = 502
    code = "engine_failed"


class EngineUnavailable(GatewayError):
    """The engine is starting, restarting or down."""

    status = 503
    kind = "service_unavailable_error"
    code = "engine_unavailable"
    retry_s = 5


class AdapterUnavailable(GatewayError):
    """The engine does not have the adapter that this served model needs; other models are not affected."""

    status = 503
    kind = "service_unavailable_error"
    code = "adapter_unavailable"
    retry_s = 5


class StoreUnavailable(GatewayError):
    """The document store failed."""

    status = 503
    kind = "service_unavailable_error"
    code = "store_unavailable"
    retry_s = 5


class EngineTimeout(GatewayError):
    """The engine accepted the request and then went silent."""

    status = 504
    kind = "timeout_error"
    code = "engine_timeout"


_BY_STATUS: Mapping[int, type[GatewayError]] = {
    400: BadRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    409: Conflict,
    413: BodyTooLarge,
    422: BadRequest,
    429: Overloaded,
    503: EngineUnavailable,
    504: EngineTimeout,
}


def from_status(status: int, message: str, *, param: str | None = None) -> GatewayError:
    """The error for an HTTP status that a framework or the engine chose; unknown ones become 400 or 500."""
    fallback: type[GatewayError] = BadRequest if 400 <= status < 500 else InternalError
    return _BY_STATUS.get(status, fallback)(message, param=param)


def from_engine(status: int, body: bytes) -> GatewayError:
    """The engine's own error response, mapped.

    A 4xx is the client's to mend and keeps the engine's words. 401 and 404 are not: the internal key and the engine's
    model names are ours, so they mean that gateway and engine disagree.
    """
    message, param = _engine_words(body)
    if status == 503:
        return EngineUnavailable(message, retry_after_s=5)
    if status == 429:
        return Overloaded(message, retry_after_s=2)
    if status in (401, 403, 404) or status >= 500:
        return UpstreamFailed(f"the engine refused the gateway's request ({status}): {message}")
    if "context length" in message or "maximum model length" in message or "max_model_len" in message:
        return ContextTooLong(message, param="messages")
    return BadRequest(message, param=param)


def _engine_words(body: bytes) -> tuple[str, str | None]:
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:500].decode("utf-8", "replace") or "no further details", None
    error = parsed.get("error", parsed) if isinstance(parsed, dict) else {}
    if not isinstance(error, dict):
        return str(error), None
    param = error.get("param")
    return str(error.get("message", "no further details")), param if isinstance(param, str) else None


_FROM_RETRIEVAL: Mapping[type[retrieval.RetrievalError], type[GatewayError]] = {
    retrieval.UnreadableDocument: Unprocessable,
    retrieval.UnknownKnowledge: NotFound,
    retrieval.BadFilter: BadRequest,
    retrieval.BadName: BadRequest,
    retrieval.TextTooLong: ContextTooLong,
    retrieval.StoreFailed: StoreUnavailable,
    retrieval.StoreUnreachable: StoreUnavailable,
    retrieval.VectorsElsewhere: StoreUnavailable,
    retrieval.StoreLocked: Conflict,
    retrieval.EmbedderMismatch: Conflict,
    retrieval.CalibrationFailed: BadRequest,
    retrieval.RerankerUnusable: Conflict,
    retrieval.RerankingFailed: BadRequest,
}


_FROM_ADAPTERS: Mapping[type[adapters.AdapterError], tuple[type[GatewayError], str]] = {
    adapters.UnknownAdapter: (NotFound, "adapter_not_found"),
    adapters.PromotionRefused: (Conflict, "promotion_refused"),
    adapters.VersionInUse: (Conflict, "version_in_use"),
    adapters.WrongBase: (Conflict, "wrong_base"),
    adapters.TamperedAdapter: (Conflict, "damaged_adapter"),
    adapters.MalformedManifest: (Conflict, "damaged_adapter"),
    adapters.UnsafeAdapter: (BadRequest, "unsafe_adapter"),
}


def from_adapters(error: adapters.AdapterError) -> GatewayError:
    """The adapters package's error as one of ours; its messages are written for users."""
    kind, code = _FROM_ADAPTERS.get(type(error), (InternalError, None))
    return kind(str(error), code=code)


def from_retrieval(error: retrieval.RetrievalError) -> GatewayError:
    """The retrieval package's error as one of ours; its messages are written for users."""
    return _FROM_RETRIEVAL.get(type(error), InternalError)(str(error))
