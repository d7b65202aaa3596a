"""The simulator's adapters: vLLM's rules for loading them and for sharing its slots, as of vLLM 0.32, without weights.

One batch uses at most `slots` adapters; a request for another one waits until a slot has no running request, and the
one used longest ago makes room.
"""

import asyncio
import json
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from serving.engine.protocol import AdapterRefused, LoraModule


class SimulatedLoras:
    """`loaded` is what the process has; `swaps` counts how often one made room for another."""

    def __init__(self, slots: int, max_rank: int) -> None:
        self._slots, self._max_rank = slots, max_rank
        self._running: OrderedDict[str, int] = OrderedDict()
        self._changed = asyncio.Condition()
        self.loaded: set[str] = set()
        self.swaps = 0

    def load(self, lora: LoraModule) -> None:
        """Raises AdapterRefused for what vLLM refuses: no adapter there, or too large a rank."""
        try:
            rank = json.loads((lora.path / "adapter_config.json").read_text(encoding="utf-8"))["r"]
        except (OSError, ValueError, LookupError, TypeError):
            raise AdapterRefused(f"No adapter found for {lora.path}") from None
        if rank > self._max_rank:
            raise AdapterRefused(f"LoRA rank {rank} is greater than max_lora_rank {self._max_rank}.")
        self.loaded.add(lora.name)

    def clear(self) -> None:
        """What a crash leaves."""
        self.loaded.clear()
        self._running.clear()

    @asynccontextmanager
    async def use(self, name: str) -> AsyncIterator[None]:
        """A request of this adapter runs."""
        async with self._changed:
            await self._changed.wait_for(lambda: name in self._running or self._make_room())
            self._running[name] = self._running.get(name, 0) + 1
            self._running.move_to_end(name)
        try:
            yield
        finally:
            async with self._changed:
                if name in self._running:  # not after a crash
                    self._running[name] = max(0, self._running[name] - 1)
                self._changed.notify_all()

    def _make_room(self) -> bool:
        if len(self._running) < self._slots:
            return True
        idle = next((name for name, requests in self._running.items() if requests == 0), None)
        if idle is None:
            return False
        del self._running[idle]
        self.swaps += 1
        return True
