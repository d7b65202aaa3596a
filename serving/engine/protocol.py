"""The engine as the rest of the gateway sees it."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from serving.engine.seconds import EngineSeconds

# Called with one short line whenever a start-up stage changes.
Progress = Callable[[str], None]
# What a health check found; `dead` is certain, `silent` may only be slow.
Health = Literal["well", "silent", "dead"]


class EngineFailed(Exception):
    """The engine cannot start; the message holds the reason, its last log lines and what to do next."""


class AdapterRefused(Exception):
    """The engine would not load one adapter; it goes on serving everything else. The message holds its reason."""


@dataclass(frozen=True, slots=True)
class LoraModule:
    """An adapter version that the engine serves as a model of its own, under its immutable version name."""

    name: str
    path: Path
    rank: int


class EngineResponse(Protocol):
    """An answer that has begun: `read` takes it whole, `chunks` yields bytes as they come, in pieces of any size.

    Both raise EngineTimeout when the engine goes silent and UpstreamFailed when the connection breaks.
    """

    @property
    def status(self) -> int:
        """The HTTP status; the body of any but 200 is an error object."""

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes."""

    async def read(self) -> bytes:
        """The whole body."""


class Engine(Protocol):
    """A base model with adapters behind OpenAI's completion endpoints."""

    @property
    def base_model(self) -> str:
        """The name the engine serves the base model under."""

    @property
    def simulated(self) -> bool:
        """True if nothing it produces was computed by a model."""

    @property
    def ready(self) -> bool:
        """True if it answered its last health check."""

    @property
    def scores_text(self) -> bool:
        """True if asking for `prompt_logprobs` does it no harm."""

    @property
    def restarts(self) -> int:
        """How often it was restarted after a crash."""

    async def start(self, progress: Progress) -> None:
        """Return when it answers; raises EngineFailed."""

    async def stop(self) -> None:
        """End it and everything it started."""

    async def measured(self) -> EngineSeconds | None:
        """What it has measured of the requests it finished since it started; None if it does not say, or not now."""

    def post(self, path: str, body: bytes) -> AbstractAsyncContextManager[EngineResponse]:
        """Send a JSON request. Leaving the context before the end aborts the generation.

        Raises EngineUnavailable when it cannot be reached.
        """

    async def load_adapter(self, lora: LoraModule) -> None:
        """Let it answer under its name from now on, after a restart too; one that does already is left alone.

        Raises AdapterRefused, and EngineUnavailable while there is no engine to load it into.
        """

    async def unload_adapter(self, name: str) -> None:
        """Forget it. The caller sees to it that no request of it is running. Raises EngineUnavailable."""

    def refusal(self, name: str) -> str | None:
        """Why the engine does not have this adapter, or None if it has: after a restart each is loaded anew."""

    def lacking(self, name: str) -> Mapping[str, str]:
        """Of several engines those that do not have this adapter now, with the reason: each will get it when it can."""
