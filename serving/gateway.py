"""Assembles the gateway from its settings, and takes it apart again in order."""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from retrieval.batching import BatchingEmbedder
from retrieval.calibrator import Calibrator
from retrieval.chunking import Chunker
from retrieval.embedder import Embedder, SentenceTransformerEmbedder, packaged_minilm
from retrieval.errors import UnreadableDocument
from retrieval.folder import read, walk
from retrieval.lock import OwnerLock
from retrieval.pipeline import Policy, Retriever, Scope
from retrieval.sandbox import Limits as ParseLimits
from retrieval.sandbox import Sandbox
from retrieval.selection import Limits as SearchLimits
from retrieval.store import Store
from serving.accounting.cost import Prices
from serving.accounting.ledger import LedgerSink
from serving.accounting.log import LogSink
from serving.accounting.meter import Meter
from serving.accounting.metrics import MetricsSink
from serving.accounting.recent import RecentRequests
from serving.auth import LOCAL_OPERATOR, KeyStore
from serving.completions import Completions, Runtime
from serving.engine.child import VllmChild
from serving.engine.device import Device, detect
from serving.engine.loras import Loras
from serving.engine.protocol import Engine, EngineFailed, Progress
from serving.engine.simulated import SIMULATED_MODEL, SimulatedEngine
from serving.engine.vllm import VllmClient
from serving.engine.weights import EMBEDDED_MODEL
from serving.knowledge import Knowledge, Threads
from serving.models import Catalogue, base_name, build_catalogue
from serving.openai import Limits
from serving.responses import Responses
from serving.rollout.opening import first_loras, install_configured, open_desk, open_quality
from serving.rollout.operations import Rollout
from serving.rollout.quality import Quality
from serving.sections import Settings
from serving.stores.service import Stores, open_stores

LEDGER_TICK_S = 1.0
_SEARCHES = 16  # at a time
PricesFor = Callable[[Device], Prices]


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway; the HTTP routes work on this and nothing else."""

    settings: Settings
    catalogue: Catalogue
    rollout: Rollout
    quality: Quality
    engine: Engine
    knowledge: Knowledge
    retriever: Retriever
    completions: Completions
    responses: Responses
    stores: Stores
    keys: KeyStore
    metrics: MetricsSink
    limits: Limits
    # Done once the engine has answered for the first time; fails with EngineFailed.
    engine_started: "asyncio.Task[None]"
    # Set once the configured documents are in: until then a question might abstain that has an answer.
    documents_in: asyncio.Event

    def readiness(self) -> dict[str, bool]:
        """What must be true before requests should come."""
        return {
            "engine": self.engine.ready,
            "store": self.knowledge.healthy(),
            "documents": self.documents_in.is_set(),
        }


@asynccontextmanager
async def open_gateway(
    settings: Settings, prices_for: PricesFor, url: str, progress: Progress, embedder: Embedder | None = None
) -> AsyncIterator[Gateway]:
    """Assembled and with the engine starting: await `engine_started`, while the HTTP server already answers.

    `embedder` replaces the configured one. Raises RetrievalError (store locked, embedder mismatch), AdapterError,
    SettingsError (no price) and EngineFailed (no base model).
    """
    async with AsyncExitStack() as stack:
        lock = OwnerLock(settings.home / "store.lock")
        lock.acquire(url)
        stack.callback(lock.release)
        keys = KeyStore(settings.home / "keys.db")
        stack.callback(keys.close)
        device = detect()
        prices = prices_for(device)
        meter = Meter(_accelerators(settings, device), settings.cost.idle_half_life_s)
        rollout = await _open_rollout(stack, settings, device, progress)
        engine, catalogue = rollout.engine, rollout.catalogue
        # Beside the embedder: both mostly import libraries, on one core each.
        engine_started = asyncio.create_task(engine.start(progress))
        stack.push_async_callback(_cancel, engine_started)
        retriever, knowledge = await _open_knowledge(stack, settings, progress, embedder)
        metrics = MetricsSink(prices, catalogue.names)
        metrics.watch_engine(meter.bill, lambda: engine.ready, lambda: engine.restarts)
        ledger = _open_ledger(stack, settings, prices, meter, simulated=engine.simulated)
        limits = _limits(settings, scores_text=engine.scores_text)
        recent = RecentRequests(settings.home / "ledger.db")
        quality = await stack.enter_async_context(open_quality(rollout, settings.home, metrics.versions, recent))
        sinks = (metrics, ledger, LogSink(prices), recent)
        stores = await stack.enter_async_context(open_stores(settings.home, knowledge, time.time))
        runtime = Runtime(rollout.traffic, quality, engine, knowledge, stores, meter, prices, sinks, limits)
        completions = Completions(runtime)
        yield Gateway(
            settings=settings,
            catalogue=catalogue,
            rollout=rollout,
            quality=quality,
            engine=engine,
            engine_started=engine_started,
            documents_in=asyncio.Event(),
            knowledge=knowledge,
            retriever=retriever,
            completions=completions,
            responses=Responses(runtime, completions),
            stores=stores,
            keys=keys,
            metrics=metrics,
            limits=limits,
        )


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


async def _open_knowledge(
    stack: AsyncExitStack, settings: Settings, progress: Progress, embedder: Embedder | None
) -> tuple[Retriever, Knowledge]:
    # More than cores: threads that wait for the embedder are what it makes its batches of.
    executor = ThreadPoolExecutor(max_workers=_SEARCHES, thread_name_prefix="retrieval")
    stack.callback(executor.shutdown, cancel_futures=True)
    ingestion = ThreadPoolExecutor(max_workers=2, thread_name_prefix="ingestion")
    stack.callback(ingestion.shutdown, cancel_futures=True)
    sandbox = open_sandbox(settings)
    stack.callback(sandbox.close)  # before the executor waits: a file that is being parsed is given up
    progress("loading the embedder and opening the store")
    store, chosen = await asyncio.to_thread(open_store, settings, embedder)
    stack.callback(store.close)
    retriever = build_retriever(settings, store, chosen, sandbox)
    calibrator = open_calibrator(settings, retriever, store, chosen)
    threads = Threads(executor, ingestion)
    return retriever, Knowledge(retriever, store, chosen, threads, settings.retrieval, calibrator)


def _open_ledger(
    stack: AsyncExitStack, settings: Settings, prices: Prices, meter: Meter, *, simulated: bool
) -> LedgerSink:
    ledger = LedgerSink(settings.home / "ledger.db", uuid.uuid4().hex, prices, meter.bill, simulated=simulated)
    stack.callback(ledger.close)
    stack.push_async_callback(_cancel, asyncio.create_task(_tick(ledger)))
    return ledger


def _accelerators(settings: Settings, device: Device) -> int:
    """How many accelerators the price per hour is paid for: those the engine is split over; a CPU counts as one."""
    return settings.engine.tensor_parallel_size if device.kind == "gpu" or settings.engine.url is not None else 1


def chosen_base(settings: Settings, device: Device) -> str:
    """Hub id or path of the base model."""
    simulated = settings.engine.kind == "simulated"
    return settings.engine.model or (SIMULATED_MODEL if simulated else device.default_model)


def _limits(settings: Settings, *, scores_text: bool) -> Limits:
    server = settings.server
    scored = server.max_scored_bytes if scores_text else 0
    return Limits(server.max_n, server.max_logprobs, server.max_schema_bytes, settings.retrieval.max_top_k, scored)


def open_store(settings: Settings, embedder: Embedder | None = None) -> tuple[Store, Embedder]:
    """The document store with the embedder it was built with. The caller holds the owner lock."""
    embedder = BatchingEmbedder(embedder or open_embedder(settings))
    return Store(settings.home / "chroma", embedder.fingerprint, embedder.dimensions), embedder


def open_calibrator(settings: Settings, retriever: Retriever, store: Store, embedder: Embedder) -> Calibrator:
    """With the calibrations that are kept under home."""
    return Calibrator(settings.home / "calibration", retriever, store, embedder)


def open_sandbox(settings: Settings) -> Sandbox:
    """Where documents are parsed. The caller closes it."""
    limits = settings.ingestion
    return Sandbox(
        ParseLimits(
            limits.parse_memory_mib, limits.parse_cpu_s, limits.parse_wall_s, settings.server.max_document_bytes
        )
    )


def open_embedder(settings: Settings) -> Embedder:
    """The configured embedding model, or the packaged one."""
    wish = settings.retrieval
    folder = wish.embedder or packaged_minilm()
    return SentenceTransformerEmbedder(folder, device=wish.device, threads=wish.threads)


def build_retriever(settings: Settings, store: Store, embedder: Embedder, sandbox: Sandbox) -> Retriever:
    """Searches as configured."""
    wish = settings.retrieval
    policy = Policy(wish.search, SearchLimits(wish.per_source, wish.duplicate, wish.neighbours))
    return Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens), policy, sandbox)


def fill_knowledge(settings: Settings, retriever: Retriever, progress: Progress) -> list[str]:
    """Ingest the configured sources into the local tenant. Returns one line per document that could not be read."""
    scope = Scope(LOCAL_OPERATOR.tenant, LOCAL_OPERATOR.groups)
    failures = []
    for name, source in settings.knowledge.items():
        listings = [walk(path) for path in source.paths]
        failures += [str(refused) for listing in listings for refused in listing.refused]
        documents = [found for listing in listings for found in listing.files]
        for number, (label, path) in enumerate(documents, start=1):
            progress(f"{name}: document {number} of {len(documents)}")
            try:
                retriever.ingest(scope, name, label, read(label, path, settings.server.max_document_bytes))
            except UnreadableDocument as error:
                failures.append(str(error))
    return failures


async def _engine(settings: Settings, base: str, device: Device, loras: Loras | None, progress: Progress) -> Engine:
    engine = settings.engine
    if engine.kind == "simulated":
        return SimulatedEngine(engine, base_name(base), loras=loras)
    if engine.url is not None:
        return VllmClient(engine, engine.url, engine.api_key, base_name(base), loras)
    model = str(await prepare_weights(settings.home, progress)) if base == EMBEDDED_MODEL else base
    return VllmChild(engine, model=model, base_model=base_name(base), device=device, loras=loras, home=settings.home)


async def prepare_weights(home: Path, progress: Progress) -> Path:
    """The embedded base model's checkpoint folder, converted first if need be. Raises EngineFailed."""
    target = (home / "models" / EMBEDDED_MODEL).resolve()
    if target.is_dir():
        return target
    progress(f"converting {EMBEDDED_MODEL} (once)")
    command = (sys.executable, "-m", "serving.engine.weights", str(target))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    _, stderr = await process.communicate()
    if process.returncode != 0:
        lines = stderr.decode("utf-8", "replace").strip().splitlines()
        raise EngineFailed("the base model could not be prepared: " + "\n".join(lines[-5:]))
    return target


async def _tick(ledger: LedgerSink) -> None:
    while True:
        ledger.observe_bill()
        await asyncio.sleep(LEDGER_TICK_S)


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
