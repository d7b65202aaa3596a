"""Where an answer goes, as the inside of the gateway sees it. The HTTP edge is behind it."""

from collections.abc import Mapping
from typing import Protocol

# Why a request was cancelled; any other cancellation is the gateway's own end.
CLIENT_LEFT = "the client left"


class Reply(Protocol):
    """Where an answer goes. Either `send` once, or `start` and then `write` until done."""

    async def send(self, body: bytes, headers: Mapping[str, str]) -> None:
        """A whole JSON answer with status 200."""

    async def start(self, headers: Mapping[str, str]) -> None:
        """Open an event stream with status 200."""

    async def write(self, data: bytes) -> None:
        """Some bytes of the stream; waits while the client reads slowly."""
