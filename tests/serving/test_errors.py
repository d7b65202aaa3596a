"""One error tree: every foreign error has a place in it, every leaf is a proper OpenAI error."""

from collections.abc import Iterator

import pytest

from retrieval import errors as retrieval
from serving import errors
from serving.errors import GatewayError


def leaves(kind: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from leaves(below)


@pytest.mark.parametrize("kind", list(leaves(GatewayError)))
def test_every_error_is_an_openai_error_object(kind: type[GatewayError]) -> None:
    error = kind("what to do", param="p", retry_after_s=0.2)
    assert set(error.body()["error"]) == {"message", "type", "param", "code"}
    assert 400 <= error.status < 600
    assert error.event().startswith(b"data: {")
    assert error.event().endswith(b"\n\n")
    error.request_id = "req-1"
    assert error.headers()["x-request-id"] == "req-1"


def test_every_retrieval_error_is_mapped() -> None:
    for kind in retrieval.RetrievalError.__subclasses__():
        error = kind.__new__(kind)
        Exception.__init__(error, "its message")
        mapped = errors.from_retrieval(error)
        assert type(mapped) is not errors.InternalError, kind
        assert mapped.message == "its message"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, b'{"error":{"message":"maximum context length is 8192"}}', errors.ContextTooLong),
        (400, b'{"error":{"message":"bad temperature","param":"temperature"}}', errors.BadRequest),
        (401, b'{"error":"Unauthorized"}', errors.UpstreamFailed),
        (404, b'{"error":{"message":"no such model"}}', errors.UpstreamFailed),
        (429, b"{}", errors.Overloaded),
        (500, b"Internal Server Error", errors.UpstreamFailed),
        (503, b"", errors.EngineUnavailable),
        (400, b'{"error":[1]}', errors.BadRequest),
        (400, b"[3]", errors.BadRequest),
    ],
)
def test_the_engines_errors_are_mapped(status: int, body: bytes, kind: type[GatewayError]) -> None:
    assert type(errors.from_engine(status, body)) is kind


def test_retry_after_is_whole_seconds_and_at_least_one() -> None:
    assert errors.EngineUnavailable("x", retry_after_s=0.1).headers() == {"retry-after": "1"}
    assert errors.Overloaded("x").headers() == {}
    # Whoever is told that something is away is told when to come back.
    away = [each for each in leaves(GatewayError) if each.status == 503]
    assert len(away) >= 3
    assert all(each("x").headers() == {"retry-after": "5"} for each in away)
