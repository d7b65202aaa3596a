"""Reads the Prometheus pages of the servers of a load run; counted.py says what is kept of them."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

import aiohttp

from benchmarks.errors import EndpointError
from benchmarks.load.counted import Counted, Series, parse
from benchmarks.load.plan import LoadPlan

# A request is counted when its record is written, which may be a moment after its client saw the end.
_SETTLE_S = 3.0
_POLL_S = 0.1
_TIMEOUT = aiohttp.ClientTimeout(total=10)


class Counters:
    """Reads the pages of a run's servers; the endpoint's own with the first key, which may have to be an operator's."""

    def __init__(self, session: aiohttp.ClientSession, plan: LoadPlan) -> None:
        self._session, self._urls = session, plan.metrics_pages
        root = plan.endpoint.removesuffix("/v1")
        key = {"Authorization": f"Bearer {plan.tenants[0].key}"} if plan.tenants else {}
        self._headers = {url: key for url in self._urls if url.startswith(f"{root}/")}
        self._before: dict[str, Series] = {}

    async def start(self, *, required: bool) -> tuple[Series, ...]:
        """The state before the first request, of each page. EndpointError if a page cannot be read that is `required`;
        else it is left out."""
        for url in self._urls:
            try:
                self._before[url] = await self._read(url)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if required:
                    why = str(error) or type(error).__name__
                    raise EndpointError(
                        f"{url} is no Prometheus page ({why}); correct --metrics, or leave it out for a run without "
                        "the server's own figures"
                    ) from error
        return tuple(self._before.values())

    async def stop(self, settled: Callable[[Counted], bool]) -> tuple[Counted, ...]:
        """The state after the last one, as soon as each page has `settled`, or after three seconds."""
        return tuple([await self._settle(url, before, settled) for url, before in self._before.items()])

    async def _settle(self, url: str, before: Series, settled: Callable[[Counted], bool]) -> Counted:
        clock = asyncio.get_running_loop().time
        deadline = clock() + _SETTLE_S
        found = Counted(url, before, before)
        while True:
            # Of a server that went down meanwhile the last state known is kept, and the comparison will show it.
            with suppress(aiohttp.ClientError, OSError, ValueError):
                found = Counted(url, before, await self._read(url))
            if settled(found) or clock() > deadline:
                return found
            await asyncio.sleep(_POLL_S)

    async def _read(self, url: str) -> Series:
        async with self._session.get(url, timeout=_TIMEOUT, headers=self._headers.get(url)) as response:
            response.raise_for_status()
            return parse(await response.text())
