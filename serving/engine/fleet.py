"""The engines that must have the adapters: the one at `engine.url`, or all of `engine.replicas` behind it.

Requests go to `engine.url` alone, and whoever is there chooses the engine. So every engine must have every adapter:
a promotion loads it into all of them, an engine that comes or comes back is found within a second and given what it
should have, and a request that still meets one without it brings it there (`mend`) and is sent again.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from urllib.parse import urlsplit

from serving.engine.http import RETRY_AFTER_S
from serving.engine.loras import Loras
from serving.engine.protocol import AdapterRefused, LoraModule
from serving.engine.replica import Replica
from serving.engine.seconds import EngineSeconds
from serving.engine.server import Server
from serving.errors import EngineUnavailable, GatewayError
from serving.names import NAMES

_INTERVAL_S = 1.0
_LOOKUP_S = 3.0
# The present URLs behind a configured one, or None where that cannot be said now.
Find = Callable[[str], Awaitable[Iterable[str] | None]]


async def addresses(url: str) -> Iterable[str] | None:
    """One URL for each address of the host's. With TLS the name itself, which the certificate is for."""
    parts = urlsplit(url)
    if parts.scheme != "http":
        return [url]
    try:
        found = await NAMES.addresses(parts.hostname or "", _LOOKUP_S)
    except OSError as error:
        return [] if isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME else None
    hosts = (f"[{host}]" if ":" in host else host for host in found)
    return {f"http://{host}:{parts.port or 80}{parts.path}" for host in hosts}


class Fleet:
    """Belongs to one event loop. Without `urls` there is one engine, `front`, which its owner opens and closes."""

    def __init__(
        self,
        loras: Loras,
        front: Server,
        connect: Callable[[str], Server],
        urls: Iterable[str] = (),
        find: Find = addresses,
    ) -> None:
        self._loras, self._connect, self._urls, self._find = loras, connect, tuple(urls), find
        self._replicas = {} if self._urls else {front.url: Replica(front, loras)}
        self._behind: dict[str, set[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._mending: asyncio.Task[None] | None = None

    async def restore(self) -> None:
        """Every engine that answers gets what it should have. Raises EngineUnavailable if none answers."""
        await self._refresh()
        failed = await self._attend_all()
        if self._replicas and len(failed) == len(self._replicas):
            raise EngineUnavailable(str(failed[0]), retry_after_s=RETRY_AFTER_S)

    def watch(self) -> None:
        """Look after all of them from now on."""
        self._start(self._watch())

    async def load(self, lora: LoraModule) -> None:
        """Into every engine that is there. Raises AdapterRefused, EngineUnavailable; both name the engine."""
        await self._refresh()
        replicas = tuple(self._replicas.values())
        taken = await asyncio.gather(*(replica.take(lora) for replica in replicas), return_exceptions=True)
        for replica, outcome in zip(replicas, taken, strict=True):
            if isinstance(outcome, AdapterRefused):
                message = f"{replica.server.url}: {outcome}" if self._urls else str(outcome)
                self._loras.refused[lora.name] = message
                raise AdapterRefused(message)
        if failure := next((each for each in taken if isinstance(each, BaseException)), None):
            raise failure
        if not any(taken) and lora.name not in self._loras.wanted:
            raise EngineUnavailable("the engine is not ready; try again shortly", retry_after_s=RETRY_AFTER_S)
        self._loras.wanted[lora.name] = lora
        self._loras.refused.pop(lora.name, None)

    async def unload(self, name: str) -> None:
        """From every engine that has it."""
        for replica in tuple(self._replicas.values()):
            with suppress(AdapterRefused, EngineUnavailable):
                await replica.drop(name)

    async def mend(self) -> None:
        """An engine lacks what it should have: see to it now. Requests that find so together wait together."""
        if self._mending is None or self._mending.done():
            self._mending = asyncio.create_task(self._mend())
        await asyncio.shield(self._mending)

    async def measured(self) -> EngineSeconds | None:
        """What the engines that answer have measured of their requests, together."""
        pages = await asyncio.gather(*(each.server.measured() for each in self._replicas.values()))
        found = [page for page in pages if page is not None]
        return sum(found[1:], found[0]) if found else None

    def lacking(self, name: str) -> Mapping[str, str]:
        """URL -> why that engine does not have this adapter."""
        why = {replica.server.url: replica.lacks(name) for replica in self._replicas.values()}
        return {url: reason for url, reason in why.items() if reason is not None}

    async def close(self) -> None:
        """Leave off watching, and close the connections to the replicas."""
        running = [*self._tasks, *([self._mending] if self._mending is not None else [])]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for url in list(self._replicas) if self._urls else ():
            self._replicas.pop(url).server.close()

    async def _mend(self) -> None:
        await self._refresh()
        await self._attend_all()

    async def _attend_all(self) -> list[GatewayError]:
        done = await asyncio.gather(*(each.attend() for each in self._replicas.values()), return_exceptions=True)
        self._judge()
        failed = [each for each in done if isinstance(each, GatewayError)]
        if fault := next((each for each in done if isinstance(each, BaseException) and each not in failed), None):
            raise fault
        return failed

    async def _watch(self) -> None:
        while True:
            await self._refresh()
            for replica in self._replicas.values():
                if not replica.busy:
                    self._start(self._attend(replica))
            await asyncio.sleep(_INTERVAL_S)

    async def _attend(self, replica: Replica) -> None:
        with suppress(GatewayError):
            await replica.attend()
        self._judge()

    def _judge(self) -> None:
        """A name is refused as a whole when no engine that answers has taken it."""
        there = [replica for replica in self._replicas.values() if replica.answers]
        for name in self._loras.wanted if there else ():
            reasons = [replica.refused[name] for replica in there if name in replica.refused]
            if len(reasons) == len(there):
                self._loras.refused[name] = reasons[0]
            else:
                self._loras.refused.pop(name, None)

    async def _refresh(self) -> None:
        found = await asyncio.gather(*(self._find(url) for url in self._urls))
        for url, behind in zip(self._urls, found, strict=True):
            if behind is not None:
                self._behind[url] = {each.rstrip("/") for each in behind}
        present = set[str]().union(*self._behind.values()) if self._urls else set(self._replicas)
        for url in present - set(self._replicas):
            self._replicas[url] = Replica(self._connect(url), self._loras)
            self._replicas[url].server.open()
        for url in set(self._replicas) - present:
            self._replicas.pop(url).server.close()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
