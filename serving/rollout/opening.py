"""Puts the rollout together at start: configured adapters installed, the engine's first set, scores of canaries."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.aliases import PROD
from adapters.audit import Cause
from adapters.errors import PromotionRefused, WrongBase
from adapters.registry import AdapterVersion, Registry
from serving.accounting.recent import RecentRequests
from serving.accounting.version_metrics import VersionMetrics
from serving.database.opening import tables
from serving.engine.loras import Loras
from serving.models import Catalogue, base_name, identify
from serving.rollout.desk import Desk, Wish
from serving.rollout.feedback import SCHEMA, FeedbackStore
from serving.rollout.operations import Rollout, lora_module
from serving.rollout.quality import Quality
from serving.sections import Settings

if TYPE_CHECKING:
    from serving.database.postgres import PostgresDatabase

_CONFIGURED = "configuration"
_FIRST = Cause(who=_CONFIGURED, reason="the first version")


def open_desk(settings: Settings, base: str | None) -> Desk:
    """The registry of these settings; `base` is the base model's hub id or path, if it is known."""
    registry = Registry(settings.home / "adapters")
    identity = None if base is None else identify(base, settings.home / "cache" / "base-models.json")
    return Desk(registry, settings, None if base is None else base_name(base), identity)


def install_configured(desk: Desk, settings: Settings) -> list[str]:
    """Install the configured folders. Returns a line for each that is not served, with the reason. Raises AdapterError.

    What they hold becomes prod, also when it has changed since the last start, until an operator promotes a version.
    """
    notes, latest = [], dict[str, AdapterVersion]()
    for folder in settings.adapters:
        try:
            found = desk.registry.install(folder, desk.identity, desk.admits, _FIRST)
        except WrongBase as error:
            notes.append(str(error))
            continue
        latest[found.name] = found
    return notes + [note for found in latest.values() if (note := _follow(desk, found)) is not None]


def _follow(desk: Desk, found: AdapterVersion) -> str | None:
    prod = desk.registry.aliases(found.name).get(PROD)
    if prod == found.version:
        return None
    promote = f"`breakeven adapters promote {found.engine_name}`"
    decided = [each for each in desk.registry.log.decisions(found.name) if each["alias"] == PROD and each["to"]]
    if decided and decided[-1]["who"] not in (_CONFIGURED, "installation"):
        return f"{found.engine_name} is installed; prod stays {found.name}@{prod}, by {decided[-1]['who']}: {promote}"
    wish = Wish(found.name, found.version, PROD, _CONFIGURED, reason="the configured folder holds another version")
    try:
        desk.promote(wish, desk.examine(wish))
    except (PromotionRefused, WrongBase) as error:
        return str(error)
    return None


def first_loras(settings: Settings, registry: Registry, catalogue: Catalogue) -> Loras | None:
    """What the engine is started with; None where no adapter is in sight, because serving them costs every request."""
    configured = any(model.adapter is not None for model in settings.models.values())
    if settings.engine.max_loras == 0 or not (configured or registry.names()):
        return None
    modules = map(lora_module, catalogue.adapters)
    return Loras({module.name: module for module in modules})


@asynccontextmanager
async def open_quality(
    rollout: Rollout, home: Path, shared: "PostgresDatabase | None", metrics: VersionMetrics, recent: RecentRequests
) -> AsyncIterator[Quality]:
    """Scores are taken, and canaries tested, until the end; with a shared database together with other gateways."""
    store = FeedbackStore(await asyncio.to_thread(tables, shared, home / "feedback.db", SCHEMA))
    try:
        quality = Quality(store, recent, metrics, rollout.worse)
        await rollout.watch(quality)
        work = [quality.run(), quality.listen(), *([rollout.keep_current()] if store.shared else [])]
        running = [asyncio.create_task(each) for each in work]
        try:
            yield quality
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
    finally:
        store.close()
