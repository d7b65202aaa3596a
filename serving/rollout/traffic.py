"""Which version answers a request, and who is being answered by which.

A request keeps the version it began with to its end: aliases may change meanwhile, and a version leaves the engine
only when nobody is being answered by it.
"""

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from adapters.registry import AdapterVersion
from serving.auth import Caller
from serving.engine.protocol import Engine
from serving.errors import AdapterUnavailable
from serving.models import Catalogue, Served
from serving.sections import Canary
from serving.trace import Trace

# Takes `name@version` or `name@alias`, returns it as a served model of its own. Raises UnknownModel.
Direct = Callable[[str], Awaitable[Served]]


def in_canary(version: AdapterVersion, wish: Canary, tenant: str, who: str) -> bool:
    """Whether `who` is among the share that this canary answers: always the same ones, also after a restart.

    Each canary draws its own share, so that it is not always the same people who try.
    """
    digest = hashlib.sha256("\0".join((version.engine_name, tenant, who)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < wish.share


class Traffic:
    """Belongs to the event loop."""

    def __init__(self, catalogue: Catalogue, engine: Engine, direct: Direct) -> None:
        self._catalogue, self._engine, self._direct = catalogue, engine, direct
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, asyncio.Event] = {}

    @asynccontextmanager
    async def admit(self, trace: Trace, model: str, user: Any) -> AsyncIterator[Served]:
        """`enter` and `leave`."""
        served = await self.enter(trace, model, user)
        try:
            yield served
        finally:
            self.leave(served)

    async def enter(self, trace: Trace, model: str, user: Any) -> Served:
        """Resolve `model` for one request, tell its trace, and keep the version in place until `leave`.

        Raises UnknownModel, AdapterUnavailable.
        """
        served = await self._choose(trace.caller, model, user)
        trace.model, trace.engine_model, trace.alias = served.name, served.engine_model, served.alias
        trace.adapter = served.adapter.engine_name if served.adapter else None
        if served.adapter is not None and (why := self._engine.refusal(served.engine_model)) is not None:
            raise AdapterUnavailable(
                f"`{served.name}` needs the adapter {served.engine_model}, which the engine does not have: {why}",
                param="model",
            )
        # No await between the choice and this line: a version that was just chosen cannot be retired.
        self._running[served.engine_model] += 1
        return served

    def leave(self, served: Served) -> None:
        """The request has ended. Without an await: it may have been cancelled."""
        self._running[served.engine_model] -= 1
        if not self._running[served.engine_model]:
            del self._running[served.engine_model]
            if (waiting := self._waiting.pop(served.engine_model, None)) is not None:
                waiting.set()

    async def until_idle(self, engine_model: str) -> None:
        """Return when no request of this version is running."""
        while self._running[engine_model]:
            await self._waiting.setdefault(engine_model, asyncio.Event()).wait()

    def running(self, engine_model: str) -> int:
        """Requests of this version now."""
        return self._running[engine_model]

    async def _choose(self, caller: Caller, model: str, user: Any) -> Served:
        if "@" in model and model not in self._catalogue.names and caller.role == "operator":
            return await self._direct(model)
        served = self._catalogue.resolve(model)
        who = user if isinstance(user, str) and user else caller.key_id
        if served.canary is None or not in_canary(served.canary, served.settings.canary, caller.tenant, who):
            return served
        trial = served.on_trial()
        # A canary that is not there must not cost anyone an answer.
        return trial if self._engine.refusal(trial.engine_model) is None else served
