"""An HTTP client for one engine: a pool of kept-alive connections and the clock that ends what takes too long.

It is ours because the upstream client decides what a gateway costs (benchmarks/results/gateway): a parser in C, fed by
an asyncio protocol, does all that an engine needs, which has no use for redirects, cookies, compression and proxies.
"""

import asyncio
import ssl
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import urlsplit

from serving.engine.connection import Answer, Connection, Limits, Stale
from serving.errors import EngineTimeout, EngineUnavailable
from serving.names import NAMES

RETRY_AFTER_S = 5
# vLLM closes idle connections after 5 s; ours go before, so that hardly any is stale when it is used again.
_KEEP_ALIVE_S = 3.0
# One clock for all exchanges: a timer for each would cost more than sending it.
_TICK_S = 0.1


class Exchange:
    """`async with` it for the answer; leaving before the answer's end closes the connection."""

    __slots__ = ("_connection", "_limits", "_pool", "_request")

    def __init__(self, pool: "Connections", request: bytes, limits: Limits) -> None:
        self._pool, self._request, self._limits = pool, request, limits
        self._connection: Connection | None = None

    async def __aenter__(self) -> Answer:
        """Raises EngineUnavailable, EngineTimeout, UpstreamFailed."""
        kept = self._pool.kept()
        try:
            if kept is not None:
                answer = self._send(kept)
                try:
                    await answer.head()
                    return answer
                except Stale:
                    self._pool.release(kept)
            # Not on another kept one, which may be as stale; and a new one is never called so.
            answer = self._send(await self._pool.connect(self._limits.connect_s))
            await answer.head()
            return answer
        except BaseException:
            self.leave()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def _send(self, connection: Connection) -> Answer:
        self._connection = connection
        return self._pool.send(connection, self._request, self._limits)

    def leave(self) -> None:
        """Gives the connection back; a second call does nothing."""
        # By a second call somebody else may already be answered over it.
        connection, self._connection = self._connection, None
        if connection is not None:
            self._pool.release(connection)


class Connections:
    """All connections to the server at `url`; belongs to one event loop. There is no limit: admission is the
    gateway's, and a limit here would show up as time to first token."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._ssl = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or (443 if self._ssl else 80)
        self._prefix = parts.path.rstrip("/")
        lines = {"host": parts.netloc.rpartition("@")[2], **headers}
        self._headers = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self._kept: list[Connection] = []
        self._running: set[Connection] = set()
        self._clock: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def busy(self) -> int:
        """Exchanges that run."""
        return len(self._running)

    def exchange(self, method: str, path: str, body: bytes, limits: Limits) -> Exchange:
        """One request; it is sent when the exchange is entered."""
        head = f"{method} {self._prefix}{path} HTTP/1.1\r\n{self._headers}content-length: {len(body)}\r\n\r\n"
        return Exchange(self, head.encode("latin-1") + body, limits)

    def kept(self) -> Connection | None:
        """The most recently used connection that is free."""
        oldest = asyncio.get_running_loop().time() - _KEEP_ALIVE_S
        while self._kept:
            connection = self._kept.pop()
            if connection.usable(oldest):
                return connection
            connection.close()
        return None

    async def connect(self, within_s: float) -> Connection:
        """A new connection. Raises EngineUnavailable, EngineTimeout."""
        try:
            async with asyncio.timeout(within_s):
                return await self._dial(within_s)
        except TimeoutError:
            raise EngineTimeout(f"the engine cannot be reached: no connection within {within_s:g} s") from None
        except OSError as error:
            raise EngineUnavailable(f"the engine cannot be reached: {error}", retry_after_s=RETRY_AFTER_S) from None

    def send(self, connection: Connection, request: bytes, limits: Limits) -> Answer:
        """Begin an exchange and watch its time. Raises EngineUnavailable once the pool is closed."""
        if self._closed:
            connection.close()
            raise EngineUnavailable("the engine is stopping; try again shortly", retry_after_s=RETRY_AFTER_S)
        self._running.add(connection)
        if self._clock is None:
            self._clock = asyncio.get_running_loop().call_later(_TICK_S, self._tick)
        return connection.send(request, limits)

    def release(self, connection: Connection) -> None:
        """The exchange is over, whole or not. A second call does nothing."""
        if connection in self._running:
            self._running.discard(connection)
            if connection.end():
                self._kept.append(connection)

    def close(self) -> None:
        """Close all of them; running exchanges fail."""
        self._closed = True
        if self._clock is not None:
            self._clock.cancel()
        for connection in (*self._kept, *self._running):
            connection.close()

    async def _dial(self, within_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        error: OSError = OSError("its name has no address")
        for address in await NAMES.addresses(self._host, within_s):
            try:
                _, connection = await loop.create_connection(
                    lambda: Connection(loop),
                    *(address, self._port),
                    ssl=self._ssl,
                    server_hostname=self._host if self._ssl else None,
                )
                return connection
            except OSError as failure:
                error = failure
        raise error

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in self._running:
            connection.check(now)
        for connection in [each for each in self._kept if not each.usable(now - _KEEP_ALIVE_S)]:
            self._kept.remove(connection)
            connection.close()
        self._clock = loop.call_later(_TICK_S, self._tick) if self._kept or self._running else None
