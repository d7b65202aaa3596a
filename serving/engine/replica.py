"""One of the engines that are to have the adapters, as far as this gateway knows it.

What it has is asked, not remembered: a process that was replaced between two looks has nothing, and other gateways
load and unload, too.
"""

import asyncio
import time
from contextlib import suppress

from serving.engine.http import RETRY_AFTER_S
from serving.engine.loras import Loras
from serving.engine.protocol import AdapterRefused, LoraModule
from serving.engine.server import Server
from serving.errors import EngineUnavailable, GatewayError

# A router that checks its engines has given up by now one that is silent for so long (router-envoy: 3 checks, 15 s).
_LOST_S = 15.0


class Replica:
    """`has` is what it said last; `refused` what the present process would not load, with its reason."""

    def __init__(self, server: Server, loras: Loras) -> None:
        self.server, self._loras = server, loras
        self.has: set[str] = set()
        self.refused: dict[str, str] = {}
        self.answers = False
        self._heard = time.monotonic()
        self._lock = asyncio.Lock()

    @property
    def busy(self) -> bool:
        """Whether it is being asked or told something."""
        return self._lock.locked()

    async def attend(self) -> None:
        """See what it has, and load what is missing. Raises EngineUnavailable, EngineTimeout, UpstreamFailed."""
        if not self._loras.wanted:
            return
        async with self._lock:
            await self._look()
            for lora in tuple(self._loras.wanted.values()):
                if lora.name not in self.has and lora.name not in self.refused:
                    with suppress(AdapterRefused):
                        await self._give(lora)

    async def take(self, lora: LoraModule) -> bool:
        """Load this one; False if no engine is there, which gets it when it comes.

        Raises AdapterRefused, and EngineUnavailable when there may be one that answers others.
        """
        async with self._lock:
            try:
                await self._look()
            except EngineUnavailable:
                return False
            except GatewayError as error:
                if time.monotonic() - self._heard > _LOST_S:
                    return False
                why = f"the engine at {self.server.url} does not answer: {error.message}"
                raise EngineUnavailable(why, retry_after_s=RETRY_AFTER_S) from None
            if lora.name not in self.has:
                await self._give(lora)
            return True

    async def drop(self, name: str) -> None:
        """Unload. Raises AdapterRefused, EngineUnavailable."""
        async with self._lock:
            self.has.discard(name)
            await self.server.unload(name)

    def lacks(self, name: str) -> str | None:
        """Why it does not have this adapter; None if it has."""
        if not self.answers:
            return "it does not answer"
        return None if name in self.has else self.refused.get(name, "it is being loaded")

    async def _look(self) -> None:
        try:
            has = await self.server.adapters()
        except GatewayError:
            self.answers = False
            raise
        if not self.answers or not self.has <= has:
            self.refused.clear()  # another process: ask it again
        self.has, self.answers, self._heard = has, True, time.monotonic()

    async def _give(self, lora: LoraModule) -> None:
        try:
            self._loras.check_room(lora.name, self.has)
            await self.server.load(lora)
        except AdapterRefused as error:
            self.refused[lora.name] = str(error)
            raise
        self.refused.pop(lora.name, None)
        self.has.add(lora.name)
