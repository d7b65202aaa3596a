"""A client for vLLM's OpenAI server.

Bytes are handed on as they come. Every failure becomes one of our errors, and leaving a response early closes its
connection, which is how vLLM learns that nobody wants the rest.
"""

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType

import orjson

from serving.engine.connection import Limits
from serving.engine.fleet import Fleet
from serving.engine.http import RETRY_AFTER_S, Exchange
from serving.engine.loras import Loras
from serving.engine.protocol import EngineFailed, EngineResponse, Health, LoraModule, Progress
from serving.engine.seconds import EngineSeconds
from serving.engine.server import Server
from serving.errors import AdapterUnavailable, EngineUnavailable
from serving.sections import Engine as EngineSettings

_HEALTH_INTERVAL_S = 1.0
# Until an engine that is looked for again after it seemed dead.
_SECOND_LOOK_S = 0.2
_NOT_FOUND = 404
_SERVER_FAULT = 500
# How often a request is sent again whose adapter the engine did not have that a router chose for it.
_MENDS = 4


class _Post:
    """An exchange whose answer is not the engine's last word, if it says 5xx, or that it lacks an adapter."""

    __slots__ = ("_body", "_client", "_exchange", "_limits", "_path")

    def __init__(self, client: "VllmClient", path: str, body: bytes, limits: Limits) -> None:
        self._client, self._path, self._body, self._limits = client, path, body, limits
        self._exchange = self._new()

    async def __aenter__(self) -> EngineResponse:
        answer: EngineResponse = await self._exchange.__aenter__()
        try:
            if answer.status == _NOT_FOUND:
                answer = await self._mended(answer)
            if answer.status >= _SERVER_FAULT:
                await self._client.fault()
        except BaseException:
            self._leave()
            raise
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _new(self) -> Exchange:
        return self._client.server.exchange("POST", self._path, self._body, self._limits)

    async def _mended(self, answer: EngineResponse) -> EngineResponse:
        # Nothing was generated yet, so that sending it again does nothing twice.
        for _ in range(_MENDS):
            if answer.status != _NOT_FOUND or not self._client.should_have(self._body):
                return answer
            self._leave()
            await self._client.fleet.mend()
            self._exchange = self._new()
            answer = await self._exchange.__aenter__()
        if answer.status == _NOT_FOUND:
            raise AdapterUnavailable(
                "an engine does not have this model's adapter and cannot be given it; try again shortly",
                param="model",
                retry_after_s=RETRY_AFTER_S,
            )
        return answer

    def _leave(self) -> None:
        self._exchange.leave()


class VllmClient:
    """Talks to a vLLM server at `url`; also the whole engine when that server is somebody else's."""

    simulated = False
    scores_text = True  # of a server that is not ours its operator must know; see server.max_scored_bytes
    restarts = 0

    def __init__(
        self,
        settings: EngineSettings,
        url: str,
        api_key: str | None,
        base_model: str | None = None,
        loras: Loras | None = None,
    ) -> None:
        headers = {"content-type": "application/json"}
        if api_key:
            headers["authorization"] = f"Bearer {api_key}"
        connect_s, total_s = settings.connect_timeout_s, settings.request_timeout_s
        self._startup_s = settings.startup_timeout_s
        self._whole = Limits(connect_s, total_s)
        self._stream = Limits(connect_s, total_s, settings.idle_timeout_s)
        self._base_model = base_model or settings.model or ""
        self._loras = loras or Loras()
        self.server = Server(url, headers, connect_s)
        self.fleet = Fleet(self._loras, self.server, lambda url: Server(url, headers, connect_s), settings.replicas)
        self._watch: asyncio.Task[None] | None = None
        self.ready = False

    @property
    def base_model(self) -> str:
        """As named in the settings, or the first model that an external server lists."""
        return self._base_model

    async def start(self, progress: Progress) -> None:
        """Wait for an external server to answer, then keep watching it."""
        url = self.server.url
        progress(f"waiting for the engine at {url}")
        await self.open()
        deadline = asyncio.get_running_loop().time() + self._startup_s
        while (listed := await self._listed()) is None:
            if asyncio.get_running_loop().time() > deadline:
                raise EngineFailed(f"no vLLM answers at {url}: check engine.url and engine.api_key")
            await asyncio.sleep(_HEALTH_INTERVAL_S)
        self._base_model = self._base_model or listed[0]
        if self._base_model not in listed:
            raise EngineFailed(f"the engine at {url} serves {', '.join(listed)}, not {self._base_model}")
        try:
            await self.restore()
        except EngineUnavailable as error:
            raise EngineFailed(f"the engine at {url} went away while it loaded adapters: {error}") from None
        self.ready = True
        self._watch = asyncio.create_task(self._watch_health())
        self.fleet.watch()

    async def stop(self) -> None:
        """Close the connections; the server is not ours to end."""
        self.ready = False
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        await self.fleet.close()
        self.server.close()

    async def open(self) -> None:
        """Open the connection pool, which must happen inside the event loop."""
        self.server.open()

    async def health(self) -> Health:
        """One health check. `dead` is certain: the server says so or is gone; `silent` may only be slow."""
        return await self.server.health()

    async def measured(self) -> EngineSeconds | None:
        """See Engine.measured."""
        return await self.fleet.measured() if self.ready else None

    def post(self, path: str, body: bytes) -> AbstractAsyncContextManager[EngineResponse]:
        """See Engine.post. A request whose kept-alive connection turns out to be closed is sent once more."""
        if not self.ready or not self.server.opened:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=RETRY_AFTER_S)
        limits = self._stream if b'"stream":true' in body else self._whole
        return _Post(self, path, body, limits)

    async def fault(self) -> None:
        """It may be the request's or the engine's last; only its health tells. Raises EngineUnavailable."""
        if await self._seen_twice() == "dead":
            self.ready = False
            raise EngineUnavailable("the engine has stopped; it is being restarted", retry_after_s=RETRY_AFTER_S)

    async def _listed(self) -> list[str] | None:
        """Its models, once it is there."""
        return await self.server.models() if await self.health() == "well" else None

    async def _seen_twice(self) -> Health:
        """A router may have asked the one engine that has just died: the next time it asks another."""
        if (health := await self.health()) == "dead":
            await asyncio.sleep(_SECOND_LOOK_S)
            health = await self.health()
        return health

    def should_have(self, body: bytes) -> bool:
        """Whether a request is for an adapter that every engine is to have."""
        return orjson.loads(body).get("model") in self._loras.wanted

    async def load_adapter(self, lora: LoraModule) -> None:
        """See Engine.load_adapter."""
        await self.fleet.load(lora)

    async def unload_adapter(self, name: str) -> None:
        """See Engine.unload_adapter."""
        self._loras.refused.pop(name, None)
        if self._loras.wanted.pop(name, None) is not None and self._loras.room is None:
            # On a CPU its slot stays taken, so that there is nothing to gain, and it is there if it is loaded again.
            await self.fleet.unload(name)

    def refusal(self, name: str) -> str | None:
        """See Engine.refusal."""
        return self._loras.refusal(name)

    def lacking(self, name: str) -> Mapping[str, str]:
        """See Engine.lacking."""
        return self.fleet.lacking(name)

    async def restore(self) -> None:
        """Load every adapter that this server should have; one that it refuses is remembered with the reason."""
        await self.fleet.restore()

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_INTERVAL_S)
            well = await self._seen_twice() == "well"
            if well and not self.ready:
                # It was away: if it was restarted, its adapters are gone.
                try:
                    await self.restore()
                except EngineUnavailable:
                    well = False
            self.ready = well
