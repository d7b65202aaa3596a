"""How a command talks to the gateway that runs on this machine."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

_TIMEOUT_S = 600
# The gateway is on this machine: a proxy for the world outside must not be asked for it.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class RemoteError(Exception):
    """The gateway refused (`status`) or could not be reached (0); the message says what to do next."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class RemoteGateway:
    """A gateway at `url`, asked with an operator's key if there are keys."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._url = url.rstrip("/")
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}

    def call(self, method: str, path: str, body: bytes | None = None) -> dict[str, Any]:
        """The JSON answer of `/v1/breakeven/<path>`. Raises RemoteError."""
        with self.open(method, path, body) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    @contextmanager
    def open(self, method: str, path: str, body: bytes | None = None) -> Iterator[IO[bytes]]:
        """The same, as it comes."""
        request = urllib.request.Request(f"{self._url}/v1/breakeven/{path}", body, self._headers, method=method)
        try:
            with _DIRECT.open(request, timeout=_TIMEOUT_S) as response:
                yield response
        except urllib.error.HTTPError as error:
            hint = "; set BREAKEVEN_API_KEY to an operator key" if error.code in (401, 403) else ""
            raise RemoteError(_words(error) + hint, error.code) from None
        except (urllib.error.URLError, TimeoutError) as error:
            raise RemoteError(f"the gateway at {self._url} cannot be reached: {error}") from None


def quoted(name: str) -> str:
    """A name as one part of a path."""
    return urllib.parse.quote(name, safe="")


def _words(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
