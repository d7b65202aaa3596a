"""Assembles the gateway from its settings, and takes it apart again in order."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from serving.accounting.cost import GpuPrice, Prices
from serving.accounting.economics import Economics, Economist
from serving.accounting.meter import Meter
from serving.accounting.metrics import MetricsSink
from serving.accounting.paid_engines import counted_engines
from serving.admission.opening import open_door
from serving.auth import KeyStore, open_keys
from serving.completions import Completions, Runtime
from serving.database.opening import shared_database
from serving.engine.checkpoint import find_checkpoint, prepare_weights
from serving.engine.child import VllmChild
from serving.engine.device import Device, detect
from serving.engine.loras import Loras
from serving.engine.protocol import Engine, Progress
from serving.engine.simulated import SIMULATED_MODEL, SimulatedEngine
from serving.engine.vllm import VllmClient
from serving.engine.weights import EMBEDDED_MODEL
from serving.knowledge import Knowledge
from serving.library import Library, open_knowledge, owned_store
from serving.limits import Limits
from serving.models import Catalogue, base_name, build_catalogue
from serving.observers import Machine, cancel, open_observers
from serving.rates.opening import open_rates
from serving.responses import Responses
from serving.rollout.opening import first_loras, install_configured, open_desk, open_quality
from serving.rollout.operations import Rollout
from serving.rollout.quality import Quality
from serving.sections import Settings
from serving.stores.service import Stores, open_stores
from serving.tuning.service import Host, Tuning, open_tuning, train_command

if TYPE_CHECKING:  # they bring libraries that not every gateway needs
    from retrieval.embedder import Embedder
    from serving.database.postgres import PostgresDatabase

logger = logging.getLogger("breakeven")
PricesFor = Callable[[Device], Prices]
# The economic model, from the machine's price and how many accelerators a replica is split over.
EconomistFor = Callable[[GpuPrice, int], Economist]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway; the HTTP routes work on this and nothing else."""

    settings: Settings
    catalogue: Catalogue
    rollout: Rollout
    quality: Quality
    engine: Engine
    knowledge: Knowledge
    library: Library
    completions: Completions
    responses: Responses
    stores: Stores
    tuning: Tuning
    keys: KeyStore
    metrics: MetricsSink
    economics: Economics | None
    limits: Limits
    runtime: Runtime
    # Done once the engine has answered for the first time; fails with EngineFailed.
    engine_started: "asyncio.Task[None]"
    # Set once the configured documents are in: until then a question might abstain that has an answer.
    documents_in: asyncio.Event

    async def readiness(self) -> dict[str, bool]:
        """What must be true before requests should come."""
        return {
            "engine": self.engine.ready,
            "store": await self.knowledge.healthy(),
            "documents": self.documents_in.is_set(),
        }


@asynccontextmanager
async def open_gateway(
    settings: Settings,
    prices_for: PricesFor,
    url: str,
    progress: Progress,
    embedder: "Embedder | None" = None,
    economist_for: EconomistFor | None = None,
) -> AsyncIterator[Gateway]:
    """Assembled and with the engine starting: await `engine_started`, while the HTTP server already answers.

    `embedder` replaces the configured one; without `economist_for` there is no live break-even.
    Raises RetrievalError (store locked, embedder mismatch), AdapterError,
    SettingsError (no price) and EngineFailed (no base model).
    """
    async with AsyncExitStack() as stack:
        stack.enter_context(owned_store(settings, url))
        shared, keys = await _open_keys(stack, settings)
        machine = _machine(settings, prices_for, economist_for)
        rollout, engine, engine_started = await _start(stack, settings, machine, progress)
        library, knowledge = await open_knowledge(stack, settings, progress, embedder)
        observers = await open_observers(stack, settings, machine, rollout)
        limits = _limits(settings, scores_text=engine.scores_text)
        quality = await stack.enter_async_context(open_quality(rollout, settings.home, shared, *observers.judging))
        stores = await stack.enter_async_context(open_stores(settings.home, knowledge, time.time, shared))
        tuning = await stack.enter_async_context(_tuning(settings, machine.device, rollout, stores, engine_started))
        door = open_door(settings, machine.device, observers.metrics.registry)
        paid = (machine.meter, machine.prices, observers.journal)
        held = (observers.budgets, open_rates(stack, shared, observers.metrics.registry))
        runtime = Runtime(rollout.traffic, quality, engine, knowledge, stores, *paid, limits, door, *held)
        completions = Completions(runtime)
        yield Gateway(
            settings=settings,
            catalogue=rollout.catalogue,
            rollout=rollout,
            quality=quality,
            engine=engine,
            engine_started=engine_started,
            documents_in=asyncio.Event(),
            knowledge=knowledge,
            library=library,
            completions=completions,
            responses=Responses(runtime, completions),
            stores=stores,
            tuning=tuning,
            keys=keys,
            metrics=observers.metrics,
            economics=observers.economics,
            limits=limits,
            runtime=runtime,
        )


async def _open_keys(stack: AsyncExitStack, settings: Settings) -> "tuple[PostgresDatabase | None, KeyStore]":
    """The database that gateways share, if they do, and the keys, followed until the end."""
    shared = stack.enter_context(shared_database(settings.database_url))
    opened = await asyncio.to_thread(open_keys, settings.home, shared, settings.server.keys_max_age_s)
    keys = stack.enter_context(closing(opened))
    await asyncio.to_thread(keys.follow)
    return shared, keys


async def _start(
    stack: AsyncExitStack, settings: Settings, machine: Machine, progress: Progress
) -> tuple[Rollout, Engine, "asyncio.Task[None]"]:
    await stack.enter_async_context(counted_engines(settings, machine.meter))
    rollout = await _open_rollout(stack, settings, machine.device, progress)
    # Beside the embedder: both mostly import libraries, on one core each.
    started = asyncio.create_task(rollout.engine.start(progress))
    stack.push_async_callback(cancel, started)
    return rollout, rollout.engine, started


async def _open_rollout(stack: AsyncExitStack, settings: Settings, device: Device, progress: Progress) -> Rollout:
    """The served models with their adapters, and the engine that is to serve them, which is not started yet."""
    base = chosen_base(settings, device)
    desk = await asyncio.to_thread(open_desk, settings, base)
    notes = await asyncio.to_thread(install_configured, desk, settings)
    rebuild = partial(build_catalogue, settings, base_name(base), desk.registry, int(time.time()), desk.identity)
    catalogue = await asyncio.to_thread(rebuild)
    catalogue.left_out = (*notes, *catalogue.left_out)
    engine = await _engine(settings, base, device, first_loras(settings, desk.registry, catalogue), progress)
    stack.push_async_callback(engine.stop)
    rollout = Rollout(desk, catalogue, rebuild, engine)
    stack.push_async_callback(rollout.close)
    return rollout


def _machine(settings: Settings, prices_for: PricesFor, economist_for: EconomistFor | None) -> Machine:
    device = detect()
    prices, accelerators = prices_for(device), _accelerators(settings, device)
    economist = None if economist_for is None else economist_for(prices.gpu, accelerators)
    return Machine(device, prices, Meter(accelerators, settings.cost.idle_half_life_s), economist)


def _accelerators(settings: Settings, device: Device) -> int:
    """How many accelerators the price per hour is paid for: those the engine is split over; a CPU counts as one."""
    return settings.engine.tensor_parallel_size if device.kind == "gpu" or settings.engine.url is not None else 1


def chosen_base(settings: Settings, device: Device) -> str:
    """Hub id or path of the base model."""
    simulated = settings.engine.kind == "simulated"
    return settings.engine.model or (SIMULATED_MODEL if simulated else device.default_model)


def _tuning(
    settings: Settings, device: Device, rollout: Rollout, stores: Stores, engine_started: "asyncio.Task[None]"
) -> AbstractAsyncContextManager[Tuning]:
    checkpoint = partial(find_checkpoint, chosen_base(settings, device), settings.home, logger.info)
    host = Host(rollout.engine.base_model, device, train_command(checkpoint), rollout.install)
    # Not before the engine has taken its memory.
    return open_tuning(stores.database, stores.uploads, settings, host, time.time, engine_started)


def _limits(settings: Settings, *, scores_text: bool) -> Limits:
    server = settings.server
    scored = server.max_scored_bytes if scores_text else 0
    return Limits(server.max_n, server.max_logprobs, server.max_schema_bytes, settings.retrieval.max_top_k, scored)


async def _engine(settings: Settings, base: str, device: Device, loras: Loras | None, progress: Progress) -> Engine:
    engine = settings.engine
    if engine.kind == "simulated":
        return SimulatedEngine(engine, base_name(base), loras=loras)
    if engine.url is not None:
        return VllmClient(engine, engine.url, engine.api_key, base_name(base), loras)
    model = str(await prepare_weights(settings.home, progress)) if base == EMBEDDED_MODEL else base
    return VllmChild(engine, model=model, base_model=base_name(base), device=device, loras=loras, home=settings.home)
