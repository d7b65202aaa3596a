"""A client for vLLM's OpenAI server.

One keep-alive pool; bytes are handed on as they come. Every transport error becomes one of ours, and leaving a
response early closes its connection, which is how vLLM learns that nobody wants the rest.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import aiohttp
import orjson

from serving.engine.loras import Loras
from serving.engine.protocol import AdapterRefused, EngineFailed, EngineResponse, LoraModule, Progress
from serving.errors import EngineTimeout, EngineUnavailable, UpstreamFailed
from serving.sections import Engine as EngineSettings

_HEALTH_INTERVAL_S = 1.0
_OK = 200
_NOT_FOUND = 404
_SERVER_FAULT = 500
_KEEP_ALIVE_S = 3.0
_RETRY_AFTER_S = 5
_LOAD_S = 60.0

Health = Literal["well", "silent", "dead"]


@dataclass(frozen=True, slots=True)
class _Response:
    response: aiohttp.ClientResponse

    @property
    def status(self) -> int:
        return self.response.status

    async def chunks(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self.response.content.iter_any():
                yield piece
        except TimeoutError:
            raise EngineTimeout("the engine went silent or took too long; ask for fewer tokens or try again") from None
        except aiohttp.ClientError as error:
            raise UpstreamFailed(f"the engine broke off its answer: {error}", code="engine_broke_off") from None


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
        self._settings = settings
        self._url = url.rstrip("/")
        self._headers = {"content-type": "application/json"}
        if api_key:
            self._headers["authorization"] = f"Bearer {api_key}"
        self._base_model = base_model or settings.model or ""
        self._loras = loras or Loras()
        self._session: aiohttp.ClientSession | None = None
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
        deadline = asyncio.get_running_loop().time() + self._settings.startup_timeout_s
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
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def open(self) -> None:
        """Open the connection pool, which must happen inside the event loop."""
        # No pool limit: admission is the gateway's, and a limit here would show up as time to first token.
        # Idle connections go before vLLM's own 5 s keep-alive ends, so that none is stale when it is used again.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def health(self) -> Health:
        """One health check. `dead` is certain: the server says so or is gone; `silent` may only be slow."""
        if self._session is None:
            return "dead"
        timeout = aiohttp.ClientTimeout(total=self._settings.connect_timeout_s)
        try:
            async with self._session.get(self._url + "/health", timeout=timeout) as response:
                return "well" if response.status == _OK else "dead"
        except TimeoutError:
            return "silent"
        except aiohttp.ClientError:
            return "dead"

    async def models(self) -> list[str]:
        """Names that the server lists. Raises EngineFailed if it refuses the key."""
        assert self._session is not None
        try:
            async with self._session.get(self._url + "/v1/models", headers=self._headers) as response:
                listed = orjson.loads(await response.read())
                return [str(model["id"]) for model in listed["data"]]
        except (aiohttp.ClientError, orjson.JSONDecodeError, LookupError, TypeError):
            raise EngineFailed(
                f"the engine at {self._url} does not list its models: check engine.url and engine.api_key"
            ) from None

    @asynccontextmanager
    async def post(self, path: str, body: bytes) -> AsyncIterator[EngineResponse]:
        """See Engine.post. A request whose kept-alive connection turns out to be closed is sent once more."""
        if not self.ready or self._session is None:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=_RETRY_AFTER_S)
        timeout = aiohttp.ClientTimeout(
            total=self._settings.request_timeout_s,
            sock_connect=self._settings.connect_timeout_s,
            sock_read=self._settings.idle_timeout_s if b'"stream":true' in body else None,
        )
        try:
            response = await self._send(path, body, timeout)
        except TimeoutError:
            raise EngineTimeout("the engine accepted the request and did not answer; try again") from None
        except aiohttp.ClientConnectorError as error:
            raise EngineUnavailable(f"the engine cannot be reached: {error}", retry_after_s=_RETRY_AFTER_S) from None
        except aiohttp.ClientError as error:
            raise UpstreamFailed(f"the engine broke off before answering: {error}", code="engine_broke_off") from None
        try:
            # A fault may be the request's or the engine's last; only its health tells, and clients should know which.
            if response.status >= _SERVER_FAULT and await self.health() == "dead":
                self.ready = False
                raise EngineUnavailable("the engine has stopped; it is being restarted", retry_after_s=_RETRY_AFTER_S)
            yield _Response(response)
        finally:
            # close() and not release(): an unread rest means that nobody wants it, and vLLM must see that.
            response.release() if response.content.at_eof() else response.close()

    async def _send(self, path: str, body: bytes, limits: aiohttp.ClientTimeout) -> aiohttp.ClientResponse:
        assert self._session is not None
        try:
            return await self._session.post(self._url + path, data=body, headers=self._headers, timeout=limits)
        except aiohttp.ServerDisconnectedError:
            return await self._session.post(self._url + path, data=body, headers=self._headers, timeout=limits)

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
        if self._session is None:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=_RETRY_AFTER_S)
        limits = aiohttp.ClientTimeout(total=_LOAD_S)
        try:
            async with await self._send(f"/v1/{call}", orjson.dumps(body), limits) as response:
                said = (await response.read()).decode("utf-8", "replace")
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EngineUnavailable(f"the engine cannot be reached: {error}", retry_after_s=_RETRY_AFTER_S) from None
        if response.status == _NOT_FOUND and done not in said:
            said = f"{said[:300]} (an engine of your own needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora)"
        if response.status != _OK and done not in said:
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
