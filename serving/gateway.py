"""Assembles the gateway from its settings, and takes it apart again in order."""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from adapters.registry import Registry
from retrieval.batching import BatchingEmbedder
from retrieval.calibrator import Calibrator
from retrieval.chunking import Chunker
from retrieval.embedder import Embedder, SentenceTransformerEmbedder, packaged_minilm
from retrieval.errors import StoreLocked, UnreadableDocument
from retrieval.folder import read, walk
from retrieval.lock import OwnerLock
from retrieval.pipeline import Policy, Retriever, Scope
from retrieval.postgres import Postgres
from retrieval.sandbox import Limits as ParseLimits
from retrieval.sandbox import Sandbox
from retrieval.selection import Limits as SearchLimits
from retrieval.store import Servers, Store
from retrieval.vectors import ChromaServer
from serving.accounting.cost import Prices
from serving.accounting.ledger import LedgerSink
from serving.accounting.log import LogSink
from serving.accounting.meter import Meter
from serving.accounting.metrics import MetricsSink
from serving.auth import LOCAL_OPERATOR, KeyStore
from serving.completions import Completions, Runtime
from serving.engine.child import VllmChild
from serving.engine.device import Device, detect
from serving.engine.protocol import Engine, EngineFailed, LoraModule, Progress
from serving.engine.simulated import SimulatedEngine
from serving.engine.vllm import VllmClient
from serving.engine.weights import EMBEDDED_MODEL
from serving.knowledge import Knowledge, Threads
from serving.models import Catalogue, base_name, build_catalogue
from serving.openai import Limits
from serving.responses import Responses
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

    async def readiness(self) -> dict[str, bool]:
        """What must be true before requests should come."""
        return {
            "engine": self.engine.ready,
            "store": await self.knowledge.healthy(),
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
        stack.enter_context(owned_store(settings, url))
        keys = KeyStore(settings.home / "keys.db")
        stack.callback(keys.close)
        device = detect()
        prices = prices_for(device)
        meter = Meter(_accelerators(settings, device), settings.cost.idle_half_life_s)
        registry = install_adapters(settings)
        base = settings.engine.model or ("simulated" if settings.engine.kind == "simulated" else device.default_model)
        catalogue = build_catalogue(settings, base_name(base), registry, int(time.time()))
        engine = await _engine(settings, base, device, catalogue, progress)
        stack.push_async_callback(engine.stop)
        # Beside the embedder: both mostly import libraries, on one core each.
        engine_started = asyncio.create_task(engine.start(progress))
        stack.push_async_callback(_cancel, engine_started)
        retriever, knowledge = await _open_knowledge(stack, settings, progress, embedder)
        metrics = MetricsSink(prices, catalogue.names)
        metrics.watch_engine(meter.bill, lambda: engine.ready, lambda: engine.restarts)
        ledger = _open_ledger(stack, settings, prices, meter, simulated=engine.simulated)
        limits = _limits(settings)
        sinks = (metrics, ledger, LogSink(prices))
        stores = await stack.enter_async_context(open_stores(settings.home, knowledge, time.time))
        runtime = Runtime(catalogue, engine, knowledge, stores, meter, prices, sinks, limits)
        completions = Completions(runtime)
        yield Gateway(
            settings=settings,
            catalogue=catalogue,
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


def _limits(settings: Settings) -> Limits:
    server = settings.server
    return Limits(server.max_n, server.max_logprobs, server.max_schema_bytes, settings.retrieval.max_top_k)


def open_store(settings: Settings, embedder: Embedder | None = None) -> tuple[Store, Embedder]:
    """The document store with the embedder it was built with. The caller has entered owned_store.

    Raises EmbedderMismatch, StoreUnreachable, StoreFailed.
    """
    embedder = BatchingEmbedder(embedder or open_embedder(settings))
    wish = settings.retrieval
    chroma = ChromaServer(wish.chroma_url, wish.chroma_api_key, wish.chroma_timeout_s) if wish.chroma_url else None
    database = Postgres(settings.database_url) if settings.database_url else None
    servers = Servers(chroma, database)
    return Store(settings.home / "chroma", embedder.fingerprint, embedder.dimensions, servers=servers), embedder


@contextmanager
def owned_store(settings: Settings, url: str) -> Iterator[None]:
    """Owns the documents under home, and tells others to ask at `url`. Raises StoreLocked.

    On servers they are everybody's: then this only tells, if nobody else does, and locks nobody out.
    """
    lock = OwnerLock(settings.home / "store.lock")
    with suppress(*([StoreLocked] if settings.shared else [])):
        lock.acquire(url)
    try:
        yield
    finally:
        lock.release()


def open_calibrator(settings: Settings, retriever: Retriever, store: Store, embedder: Embedder) -> Calibrator:
    """With the calibrations that are kept under home, or in the database."""
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


def install_adapters(settings: Settings) -> Registry:
    """The adapter registry, with the configured folders installed. Raises AdapterError."""
    registry = Registry(settings.home / "adapters")
    for folder in settings.adapters:
        registry.install(folder)
    return registry


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


async def _engine(settings: Settings, base: str, device: Device, catalogue: Catalogue, progress: Progress) -> Engine:
    engine = settings.engine
    if engine.kind == "simulated":
        return SimulatedEngine(engine, base_name(base))
    if engine.url is not None:
        return VllmClient(engine, engine.url, engine.api_key, base_name(base))
    model = str(await prepare_weights(settings.home, progress)) if base == EMBEDDED_MODEL else base
    loras = tuple(LoraModule(each.engine_name, each.path, each.rank) for each in catalogue.adapters)
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
