"""How many accelerators this gateway pays for where there are several engines: all of them, shared by the gateways.

Every gateway of a cluster meters the same engines. If each bills engines / gateways of them, their ledgers add up to
what the engines cost, also while either is scaled. Both are counted by DNS: a headless Service has an address for each
pod, and with publishNotReadyAddresses also for one that still loads, which is paid for as well.
"""

import asyncio
import logging
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass

from serving.accounting.ledger import scaling
from serving.accounting.ledger.database import LedgerError, Unwritten
from serving.accounting.ledger.opening import open_database
from serving.accounting.ledger.scaling import Change
from serving.accounting.meter import Meter
from serving.names import NAMES
from serving.sections import Settings

logger = logging.getLogger("breakeven.fleet")
EVERY_S = 15.0
_LOOKUP_S = 5.0
# How many addresses a host has. Raises OSError.
Resolve = Callable[[str], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Size:
    """Engines that there are, and gateways that share them."""

    engines: int
    gateways: int


# May block and runs in a thread. Raises LedgerError, Unwritten.
Note = Callable[[Size, float], None]


async def address_count(host: str) -> int:
    """Of IPv4 or IPv6, whichever are more: on a cluster with both a pod has one of each."""
    found = await NAMES.addresses(host, _LOOKUP_S)
    return max(Counter(":" in address for address in found).values())


@asynccontextmanager
async def counted_engines(settings: Settings, meter: Meter, resolve: Resolve = address_count) -> AsyncIterator[None]:
    """Counts while it is open, if the settings name a host to count by; for the first time before it is, because the
    ledger bills what was down for as many engines as there are."""
    cost = settings.cost
    if cost.engines_host is None:
        yield
        return

    def note(size: Size, accelerators: float) -> None:
        with closing(open_database(settings.home, settings.database_url)) as ledger:
            scaling.note(ledger, Change(time.time(), socket.gethostname(), size.engines, size.gateways, accelerators))

    engines = PaidEngines(meter, cost.engines_host, cost.gateways_host, note, resolve)
    await engines.look()
    task = asyncio.create_task(engines.keep_current())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class PaidEngines:
    """Sets the meter to what is there. Until a first answer of the DNS, and while it has none, nothing changes."""

    def __init__(
        self, meter: Meter, engines: str, gateways: str | None, note: Note, resolve: Resolve = address_count
    ) -> None:
        self._meter, self._each = meter, meter.accelerators
        self._engines, self._gateways, self._note, self._resolve = engines, gateways, note, resolve
        self._size: Size | None = None
        self._silent = False

    async def keep_current(self) -> None:
        """Forever, after a first look."""
        while True:
            await asyncio.sleep(EVERY_S)
            await self.look()

    async def look(self) -> None:
        """Once."""
        try:
            gateways = 1 if self._gateways is None else await self._resolve(self._gateways)
            size = Size(await self._resolve(self._engines), gateways)
        except OSError as error:
            if not self._silent:
                logger.warning("fleet: the bill stays as it is, because engines cannot be counted: %s", error)
            self._silent = True
            return
        self._silent = False
        if size != self._size:
            await self._change(size)

    async def _change(self, size: Size) -> None:
        before, self._size = self._size, size
        accelerators = self._each * size.engines / size.gateways
        self._meter.resize(accelerators, size.gateways)
        known = "" if before is None else f" after {before.engines} for {before.gateways}"
        logger.info(
            "fleet: %d engines for %d gateways%s; this one pays for %g accelerators",
            *(size.engines, size.gateways, known, accelerators),
        )
        try:
            await asyncio.to_thread(self._note, size, accelerators)
        except (LedgerError, Unwritten) as error:
            logger.error("fleet: the ledger does not know of it: %s", error)
