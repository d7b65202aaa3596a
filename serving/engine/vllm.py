"""A client for vLLM's OpenAI server.

Bytes are handed on as they come. Every failure becomes one of our errors, and leaving a response early closes its
connection, which is how vLLM learns that nobody wants the rest.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Literal

import orjson

from serving.engine.connection import Limits
from serving.engine.http import RETRY_AFTER_S, Connections, Exchange
from serving.engine.loras import Loras
from serving.engine.protocol import AdapterRefused, EngineFailed, EngineResponse, LoraModule, Progress
from serving.engine.seconds import EngineSeconds, read_page
from serving.errors import EngineTimeout, EngineUnavailable, GatewayError
from serving.sections import Engine as EngineSettings

_HEALTH_INTERVAL_S = 1.0
_OK = 200
_NOT_FOUND = 404
_SERVER_FAULT = 500
_LOAD_S = 60.0

Health = Literal["well", "silent", "dead"]


class _Post:
    """An exchange whose answer is not the engine's last word: `fault` is asked what a status of 5xx means."""

    __slots__ = ("_exchange", "_fault")

    def __init__(self, exchange: Exchange, fault: Callable[[], Awaitable[None]]) -> None:
        self._exchange, self._fault = exchange, fault

    async def __aenter__(self) -> EngineResponse:
        answer = await self._exchange.__aenter__()
        if answer.status >= _SERVER_FAULT:
            try:
                await self._fault()
            except BaseException:
                self._exchange.leave()
                raise
        return answer

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
        self._url = url.rstrip("/")
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        connect_s, total_s = settings.connect_timeout_s, settings.request_timeout_s
        self._startup_s = settings.startup_timeout_s
        self._whole = Limits(connect_s, total_s)
        self._stream = Limits(connect_s, total_s, settings.idle_timeout_s)
        self._check = Limits(connect_s, connect_s)
        self._load_limits = Limits(connect_s, _LOAD_S)
        self._base_model = base_model or settings.model or ""
        self._loras = loras or Loras()
        self._http: Connections | None = None
        self._watch: asyncio.Task[None] | None = None
        self.ready = False

    @property
    def base_model(self) -> str:
        """As named in the settings, or the first model that an external server lists."""
        return self._base_model

    async def start(self, progress: Progress) -> None:
        """Wait for an external server to answer, then keep watching it."""
        progress(f"waiting for the engine at {self._url}")
        await self.open()
        deadline = asyncio.get_running_loop().time() + self._startup_s
        while await self.health() != "well":
            if asyncio.get_running_loop().time() > deadline:
                raise EngineFailed(f"no vLLM answers at {self._url}: check engine.url and engine.api_key")
            await asyncio.sleep(_HEALTH_INTERVAL_S)
        listed = await self.models()
        self._base_model = self._base_model or listed[0]
        if self._base_model not in listed:
            raise EngineFailed(f"the engine at {self._url} serves {', '.join(listed)}, not {self._base_model}")
        try:
            await self.restore()
        except EngineUnavailable as error:
            raise EngineFailed(f"the engine at {self._url} went away while it loaded adapters: {error}") from None
        self.ready = True
        self._watch = asyncio.create_task(self._watch_health())

    async def stop(self) -> None:
        """Close the connections; the server is not ours to end."""
        self.ready = False
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        if self._http is not None:
            self._http.close()
            self._http = None

    async def open(self) -> None:
        """Open the connection pool, which must happen inside the event loop."""
        self._http = Connections(self._url, self._headers)

    async def health(self) -> Health:
        """One health check. `dead` is certain: the server says so or is gone; `silent` may only be slow."""
        if self._http is None:
            return "dead"
        try:
            async with self._http.exchange("GET", "/health", b"", self._check) as answer:
                return "well" if answer.status == _OK else "dead"
        except EngineTimeout:
            return "silent"
        except GatewayError:
            return "dead"

    async def models(self) -> list[str]:
        """Names that the server lists. Raises EngineFailed if it refuses the key."""
        assert self._http is not None
        try:
            async with self._http.exchange("GET", "/v1/models", b"", self._whole) as answer:
                listed = orjson.loads(await answer.read())
                return [str(model["id"]) for model in listed["data"]]
        except (GatewayError, orjson.JSONDecodeError, LookupError, TypeError):
            raise EngineFailed(
                f"the engine at {self._url} does not list its models: check engine.url and engine.api_key"
            ) from None

    async def measured(self) -> EngineSeconds | None:
        """See Engine.measured."""
        if not self.ready or self._http is None:
            return None
        try:
            async with self._http.exchange("GET", "/metrics", b"", self._check) as answer:
                return read_page(await answer.read()) if answer.status == _OK else None
        except GatewayError:
            return None

    def post(self, path: str, body: bytes) -> AbstractAsyncContextManager[EngineResponse]:
        """See Engine.post. A request whose kept-alive connection turns out to be closed is sent once more."""
        if not self.ready or self._http is None:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=RETRY_AFTER_S)
        limits = self._stream if b'"stream":true' in body else self._whole
        return _Post(self._http.exchange("POST", path, body, limits), self._fault)

    async def _fault(self) -> None:
        # It may be the request's or the engine's last; only its health tells, and clients should know which.
        if await self.health() == "dead":
            self.ready = False
            raise EngineUnavailable("the engine has stopped; it is being restarted", retry_after_s=RETRY_AFTER_S)

    async def load_adapter(self, lora: LoraModule) -> None:
        """See Engine.load_adapter."""
        if lora.name in self._loras.wanted and lora.name not in self._loras.refused:
            return
        await self._load(lora)
        self._loras.wanted[lora.name] = lora

    async def unload_adapter(self, name: str) -> None:
        """See Engine.unload_adapter."""
        self._loras.refused.pop(name, None)
        if self._loras.wanted.pop(name, None) is not None and self._loras.room is None:
            # On a CPU its slot stays taken, so that there is nothing to gain, and it is there if it is loaded again.
            self._loras.resident.discard(name)
            await self._manage("unload_lora_adapter", {"lora_name": name}, "cannot be found")

    def refusal(self, name: str) -> str | None:
        """See Engine.refusal."""
        return self._loras.refusal(name)

    async def restore(self) -> None:
        """Load every adapter that this server should have; one that it refuses is remembered with the reason."""
        for lora in tuple(self._loras.wanted.values()):
            with suppress(AdapterRefused):
                await self._load(lora)

    async def _load(self, lora: LoraModule) -> None:
        try:
            if lora.name not in self._loras.resident:
                self._loras.check_room(lora.name)
                body = {"lora_name": lora.name, "lora_path": str(lora.path.resolve())}
                await self._manage("load_lora_adapter", body, "has already been loaded")
                self._loras.resident.add(lora.name)
        except AdapterRefused as error:
            self._loras.refused[lora.name] = str(error)
            raise
        self._loras.refused.pop(lora.name, None)

    async def _manage(self, call: str, body: dict[str, str], done: str) -> None:
        """`done` is how vLLM words that there is nothing to do: names are immutable, so that is as good."""
        if self._http is None:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=RETRY_AFTER_S)
        try:
            async with self._http.exchange("POST", f"/v1/{call}", orjson.dumps(body), self._load_limits) as answer:
                status, said = answer.status, (await answer.read()).decode("utf-8", "replace")
        except GatewayError as error:
            raise EngineUnavailable(f"the engine cannot be reached: {error}", retry_after_s=RETRY_AFTER_S) from None
        if status == _NOT_FOUND and done not in said:
            said = f"{said[:300]} (an engine of your own needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora)"
        if status != _OK and done not in said:
            raise AdapterRefused(_words(said))

    async def _watch_health(self) -> None:
        while True:
            await asyncio.sleep(_HEALTH_INTERVAL_S)
            well = await self.health() == "well"
            if well and not self.ready:
                # It was away: if it was restarted, its adapters are gone.
                self._loras.resident.clear()
                try:
                    await self.restore()
                except EngineUnavailable:
                    well = False
            self.ready = well


def _words(said: str) -> str:
    try:
        return str(orjson.loads(said)["error"]["message"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return said[:500]
