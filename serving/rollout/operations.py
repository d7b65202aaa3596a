"""Promotes, rolls back and removes adapter versions while requests run.

A version is in the engine before an alias means it, and leaves the engine when neither an alias nor a running request
needs it. The version before prod's stays too: a roll-back should not have to wait for a disk.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from adapters.aliases import CANARY, PROD
from adapters.audit import Cause
from adapters.errors import AdapterError, VersionInUse
from adapters.registry import AdapterVersion
from serving.engine.protocol import AdapterRefused, Engine, LoraModule
from serving.errors import AdapterUnavailable, EngineUnavailable, GatewayError, UnknownModel, from_adapters
from serving.models import Catalogue, Served
from serving.rollout.desk import Desk, Wish
from serving.rollout.quality import Quality, Trial
from serving.rollout.traffic import Traffic

logger = logging.getLogger("breakeven.adapters")
# How often to look for other gateways' decisions, and how long a version stays loaded after one of ours.
_LOOK_S, _LINGER_S = 1.0, 5.0


def lora_module(version: AdapterVersion) -> LoraModule:
    """The version as the engine takes it: under its immutable name, never an alias."""
    return LoraModule(version.engine_name, version.path, version.rank)


class Rollout:
    """One operation at a time. `rebuild` resolves the served models anew from settings and registry."""

    def __init__(self, desk: Desk, catalogue: Catalogue, rebuild: Callable[[], Catalogue], engine: Engine) -> None:
        self.desk, self.catalogue, self._rebuild, self.engine = desk, catalogue, rebuild, engine
        self.traffic = Traffic(catalogue, engine, self._direct)
        self._quality: Quality | None = None
        self._lock = asyncio.Lock()
        # What the registry said when the served models were last resolved.
        self._seen: Mapping[str, Mapping[str, str]] | None = None
        self._linger_s = 0.0
        self._loaded: set[str] = {version.engine_name for version in catalogue.adapters}
        self._tasks: set[asyncio.Task[None]] = set()
        self._direct_known: dict[str, AdapterVersion] = {}

    async def watch(self, quality: Quality) -> None:
        """Have canaries tested from now on."""
        self._quality = quality
        await self._follow()

    async def keep_current(self) -> None:
        """Do as other gateways decide, until cancelled: they write the same registry, and it is read every second."""
        self._linger_s, said = _LINGER_S, ""
        while True:
            await asyncio.sleep(_LOOK_S)
            try:
                await self._catch_up()
                said = ""
            except (AdapterError, GatewayError, OSError) as error:
                # What was served before stays until this is mended.
                if str(error) != said:
                    logger.error("a decision of another gateway cannot be followed yet: %s", error)
                said = str(error)

    async def _catch_up(self) -> None:
        if await asyncio.to_thread(self.desk.registry.state) == self._seen:
            return
        async with self._lock:
            seen = await asyncio.to_thread(self.desk.registry.state)
            fresh = await asyncio.to_thread(self._rebuild)
            for version in fresh.adapters:
                await self._load(version)
            await self._adopt(fresh, seen)

    async def promote(self, wish: Wish) -> dict[str, Any]:
        """Let an alias mean another version. Raises GatewayError, and then nothing has changed."""
        async with self._lock:
            try:
                examined = await asyncio.to_thread(self.desk.examine, wish)
                await self._load(examined.version)
                await asyncio.to_thread(self.desk.promote, wish, examined)
            except AdapterError as error:
                raise from_adapters(error) from error
            await self._refresh()
            return await self._told(wish.name, wish.alias)

    async def rollback(self, name: str, alias: str, cause: Cause) -> dict[str, Any]:
        """Let prod mean what it meant before, or end a canary. Raises GatewayError."""
        async with self._lock:
            return await self._rollback(name, alias, cause)

    async def install(self, folder: Path) -> str:
        """Take a trained adapter into the registry. Returns its name as a model, loaded when it is first asked for.

        Raises AdapterError, also for one of another base model.
        """
        cause = Cause(who="fine-tuning", reason="the first version")
        async with self._lock:
            version = await asyncio.to_thread(
                self.desk.registry.install, folder, self.desk.identity, self.desk.admits, cause
            )
            await asyncio.to_thread(self.desk.resolve, version.engine_name)
            await self._refresh()
        return version.engine_name

    async def remove(self, name: str, version: str, cause: Cause) -> None:
        """Delete a version that no alias and no served model means. Raises GatewayError, and then it is still there."""
        async with self._lock:
            engine_name = f"{name}@{version}"
            try:
                # What an alias means is refused by the registry, and must stay in the engine.
                if version not in self.desk.registry.aliases(name).values():
                    if any(each.engine_name == engine_name for each in self.catalogue.adapters):
                        raise VersionInUse(f"a served model is bound to {engine_name}: change breakeven.yaml first")
                    if self.traffic.running(engine_name):
                        raise VersionInUse(f"{engine_name} is answering requests right now: try again when it has")
                    self._direct_known.pop(engine_name, None)
                    await self._unload(engine_name)
                await asyncio.to_thread(self.desk.registry.remove, name, version, cause)
            except AdapterError as error:
                raise from_adapters(error) from error

    async def show(self, name: str) -> dict[str, Any]:
        """One adapter with its versions, its decisions, and its canaries' numbers. Raises NotFound."""
        try:
            found = await asyncio.to_thread(self.desk.show, name)
        except AdapterError as error:
            raise from_adapters(error) from error
        trials = self._quality.state() if self._quality is not None else []
        return {**found, "trials": [each for each in trials if each["canary"]["version"].startswith(f"{name}@")]}

    def worse(self, trial: Trial, numbers: dict[str, Any]) -> None:
        """The sequential test has decided against a canary: roll it back."""
        self._start(self._end_canary(trial, numbers))

    async def close(self) -> None:
        """Leave off what is still waiting."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def settled(self) -> None:
        """Return when every roll-back and unloading that was begun is done."""
        while self._tasks:
            await asyncio.gather(*self._tasks)

    async def _end_canary(self, trial: Trial, numbers: dict[str, Any]) -> None:
        name, _, version = trial.canary.partition("@")
        reason = f"worse than prod beyond chance for {trial.model}, by {numbers['source']}s"
        async with self._lock:
            # Somebody may have been quicker, or have put another version on trial.
            if self.desk.registry.aliases(name).get(CANARY) == version:
                cause = Cause(who="canary test", reason=reason, seen=numbers)
                await self._rollback(name, CANARY, cause, present=version)

    async def _rollback(self, name: str, alias: str, cause: Cause, present: str | None = None) -> dict[str, Any]:
        registry = self.desk.registry
        try:
            if (version := await asyncio.to_thread(registry.previous, name, alias)) is not None:
                earlier = await asyncio.to_thread(registry.resolve, f"{name}@{version}")
                # Without an engine it is loaded when there is one: going back must always be possible.
                with suppress(EngineUnavailable):
                    await self._load(earlier)
            await asyncio.to_thread(registry.rollback, name, alias, cause, present)
        except AdapterError as error:
            raise from_adapters(error) from error
        await self._refresh()
        return await self._told(name, alias)

    async def _load(self, version: AdapterVersion) -> None:
        try:
            await self.engine.load_adapter(lora_module(version))
        except AdapterRefused as error:
            message = f"the engine does not take {version.engine_name}: {error}; nothing was changed"
            raise AdapterUnavailable(message) from None
        self._loaded.add(version.engine_name)

    async def _unload(self, engine_name: str) -> None:
        await self.engine.unload_adapter(engine_name)
        self._loaded.discard(engine_name)

    async def _refresh(self) -> None:
        seen = await asyncio.to_thread(self.desk.registry.state)
        await self._adopt(await asyncio.to_thread(self._rebuild), seen)

    async def _adopt(self, fresh: Catalogue, seen: Mapping[str, Mapping[str, str]]) -> None:
        self.catalogue.adopt(fresh)
        self._seen = seen
        await self._follow()
        for engine_name in self._loaded - await asyncio.to_thread(self._kept):
            self._start(self._retire(engine_name))

    def _kept(self) -> set[str]:
        kept = {version.engine_name for version in self.catalogue.adapters}
        for name in {engine_name.partition("@")[0] for engine_name in kept}:
            versions = (*self.desk.registry.aliases(name).values(), self.desk.registry.previous(name, PROD))
            kept |= {f"{name}@{version}" for version in versions if version is not None}
        return kept

    async def _retire(self, engine_name: str) -> None:
        # Other gateways may not know yet that it is not needed any more.
        await asyncio.sleep(self._linger_s)
        await self.traffic.until_idle(engine_name)
        async with self._lock:
            needed = self.traffic.running(engine_name) or engine_name in await asyncio.to_thread(self._kept)
            if engine_name in self._loaded and not needed:
                with suppress(EngineUnavailable):
                    await self._unload(engine_name)

    async def _direct(self, reference: str) -> Served:
        """A version under its own name, for whoever evaluates it."""
        version = self._direct_known.get(reference)
        if version is None or self.engine.refusal(version.engine_name) is not None:
            async with self._lock:
                try:
                    version = await asyncio.to_thread(self.desk.resolve, reference)
                except AdapterError:
                    why = f"there is no adapter {reference[:100]!r} for this base model"
                    raise UnknownModel(why, param="model") from None
                if self.engine.refusal(version.engine_name) is not None:
                    await self._load(version)
            if version.engine_name == reference:  # no alias: it means the same for as long as it is there
                self._direct_known[reference] = version
        return replace(
            self.catalogue.plain, name=version.engine_name, engine_model=version.engine_name, adapter=version
        )

    async def _follow(self) -> None:
        if self._quality is not None:
            trials = [self._trial(served) for served in self.catalogue.served if served.canary is not None]
            await self._quality.follow([trial for trial in trials if trial is not None])

    def _trial(self, served: Served) -> Trial | None:
        if served.canary is None or served.adapter is None:
            return None
        began = self.desk.registry.since(served.canary.name, CANARY)
        since = datetime.fromisoformat(began).timestamp() if began is not None else 0.0
        wish = served.settings.canary
        versions = (served.adapter.engine_name, served.canary.engine_name)
        return Trial(served.name, *versions, since, wish.alpha, wish.share)

    async def _told(self, name: str, alias: str) -> dict[str, Any]:
        aliases = await asyncio.to_thread(self.desk.registry.aliases, name)
        version = aliases.get(alias)
        # Of several engines; empty in all but odd hours.
        lacking = dict(self.engine.lacking(f"{name}@{version}"))
        told = {"object": "adapter", "name": name, "alias": alias, "version": version, "aliases": aliases}
        return {**told, "engines_without_it": lacking} if lacking else told

    def _start(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("an adapter could not be rolled back or unloaded: %s", error)
