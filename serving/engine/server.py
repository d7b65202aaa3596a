"""One vLLM server as an address: its health, the adapters that it has, and how it is told to load and unload them."""

from collections.abc import Mapping

import orjson

from serving.engine.connection import Limits
from serving.engine.http import RETRY_AFTER_S, Connections, Exchange
from serving.engine.protocol import AdapterRefused, EngineFailed, Health, LoraModule
from serving.engine.seconds import EngineSeconds, read_page
from serving.errors import EngineTimeout, EngineUnavailable, GatewayError, UpstreamFailed

_OK = 200
_NOT_FOUND = 404
_SERVER_FAULT = 500
_LOAD_S = 60.0


class Server:
    """Belongs to one event loop, from `open` to `close`. `connect_s` bounds everything but loading."""

    def __init__(self, url: str, headers: Mapping[str, str], connect_s: float) -> None:
        self.url = url.rstrip("/")
        self._headers = headers
        self._check = Limits(connect_s, connect_s)
        self._load = Limits(connect_s, _LOAD_S)
        self._http: Connections | None = None

    @property
    def opened(self) -> bool:
        """Whether requests can be sent."""
        return self._http is not None

    def open(self) -> None:
        """Open the connection pool, which must happen inside the event loop."""
        self._http = Connections(self.url, self._headers)

    def close(self) -> None:
        """Close the connections; the server is not ours to end."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def exchange(self, method: str, path: str, body: bytes, limits: Limits) -> Exchange:
        """One request; it is sent when the exchange is entered. Raises EngineUnavailable."""
        if self._http is None:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=RETRY_AFTER_S)
        return self._http.exchange(method, path, body, limits)

    async def health(self) -> Health:
        """One health check. `dead` is certain: the server says so or is gone; `silent` may only be slow."""
        try:
            async with self.exchange("GET", "/health", b"", self._check) as answer:
                return "well" if answer.status == _OK else "dead"
        except EngineTimeout:
            return "silent"
        except GatewayError:
            return "dead"

    async def measured(self) -> EngineSeconds | None:
        """What it has measured of its requests; None if it does not answer, or does not say."""
        try:
            async with self.exchange("GET", "/metrics", b"", self._check) as answer:
                return read_page(await answer.read()) if answer.status == _OK else None
        except GatewayError:
            return None

    async def models(self) -> list[str] | None:
        """Names that the server lists; None if it does not answer now. Raises EngineFailed if it refuses the key."""
        try:
            async with self.exchange("GET", "/v1/models", b"", self._check) as answer:
                if answer.status >= _SERVER_FAULT:  # a router that knows no engine yet
                    return None
                return [str(model["id"]) for model in orjson.loads(await answer.read())["data"]]
        except GatewayError:
            return None
        except (orjson.JSONDecodeError, LookupError, TypeError):
            raise EngineFailed(
                f"the engine at {self.url} does not list its models: check engine.url and engine.api_key"
            ) from None

    async def adapters(self) -> set[str]:
        """What it has loaded, whoever loaded it. Raises EngineUnavailable, EngineTimeout, UpstreamFailed."""
        try:
            return {str(model["id"]) for model in await self._listed() if model.get("parent")}
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
            raise UpstreamFailed(f"the engine at {self.url} does not list its models: check engine.api_key") from None

    async def load(self, lora: LoraModule) -> None:
        """Raises AdapterRefused, EngineUnavailable."""
        body = {"lora_name": lora.name, "lora_path": str(lora.path.resolve())}
        await self._manage("load_lora_adapter", body, "has already been loaded")

    async def unload(self, name: str) -> None:
        """Raises AdapterRefused, EngineUnavailable."""
        await self._manage("unload_lora_adapter", {"lora_name": name}, "cannot be found")

    async def _listed(self) -> list[dict[str, object]]:
        async with self.exchange("GET", "/v1/models", b"", self._check) as answer:
            listed: list[dict[str, object]] = orjson.loads(await answer.read())["data"]
            return listed

    async def _manage(self, call: str, body: dict[str, str], done: str) -> None:
        """`done` is how vLLM words that there is nothing to do: names are immutable, so that is as good."""
        try:
            async with self.exchange("POST", f"/v1/{call}", orjson.dumps(body), self._load) as answer:
                status, said = answer.status, (await answer.read()).decode("utf-8", "replace")
        except GatewayError as error:
            raise EngineUnavailable(f"the engine cannot be reached: {error}", retry_after_s=RETRY_AFTER_S) from None
        if status == _NOT_FOUND and done not in said:
            said = f"{said[:300]} (an engine of your own needs VLLM_ALLOW_RUNTIME_LORA_UPDATING=1 and --enable-lora)"
        if status != _OK and done not in said:
            raise AdapterRefused(_words(said))


def _words(said: str) -> str:
    try:
        return str(orjson.loads(said)["error"]["message"])
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return said[:500]
