"""Assembles the gateway from its settings, and takes it apart again in order."""

import asyncio
import sys
import time
import uuid
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.registry import Registry
from retrieval.chunking import Chunker
from retrieval.documents import walk
from retrieval.embedder import SentenceTransformerEmbedder, packaged_minilm
from retrieval.errors import UnreadableDocument
from retrieval.lock import OwnerLock
from retrieval.pipeline import Retriever, Scope
from retrieval.store import Store
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
from serving.knowledge import Knowledge
from serving.models import Catalogue, base_name, build_catalogue
from serving.openai import Limits
from serving.settings import Settings

LEDGER_TICK_S = 1.0
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
    keys: KeyStore
    metrics: MetricsSink
    limits: Limits

    def readiness(self) -> dict[str, bool]:
        """What must be true before requests should come."""
        return {"engine": self.engine.ready, "store": self.knowledge.healthy()}


@asynccontextmanager
async def open_gateway(
    settings: Settings, prices_for: PricesFor, url: str, progress: Progress
) -> AsyncIterator[Gateway]:
    """Everything but a started engine: call `gateway.engine.start` next, while the HTTP server already answers.

    Raises RetrievalError (store locked, embedder mismatch), AdapterError, EngineFailed; all of them before anything
    slow was started.
    """
    async with AsyncExitStack() as stack:
        lock = OwnerLock(settings.home / "store.lock")
        lock.acquire(url)
        stack.callback(lock.release)
        keys = KeyStore(settings.home / "keys.db")
        stack.callback(keys.close)
        device = detect()
        prices = prices_for(device)
        registry = install_adapters(settings)
        base = settings.engine.model or ("simulated" if settings.engine.kind == "simulated" else device.default_model)
        catalogue = build_catalogue(settings, base_name(base), registry, int(time.time()))
        engine = await _engine(settings, base, device, catalogue, progress)
        stack.push_async_callback(engine.stop)
        executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="retrieval")
        stack.callback(executor.shutdown, cancel_futures=True)
        progress("loading the embedder and opening the store")
        store, embedder = await asyncio.to_thread(open_store, settings)
        stack.callback(store.close)
        retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
        knowledge = Knowledge(retriever, store, embedder, executor, settings.retrieval)
        accelerators = device.count if device.kind == "gpu" and settings.engine.url is None else 1
        meter = Meter(min(accelerators, settings.engine.tensor_parallel_size), settings.cost.idle_half_life_s)
        metrics = MetricsSink(prices, catalogue.names)
        metrics.watch_engine(meter.bill, lambda: engine.ready, lambda: engine.restarts)
        run_id = uuid.uuid4().hex
        ledger = LedgerSink(settings.home / "ledger.db", run_id, prices, meter.bill, simulated=engine.simulated)
        stack.callback(ledger.close)
        stack.push_async_callback(_cancel, asyncio.create_task(_tick(ledger)))
        server = settings.server
        limits = Limits(server.max_n, server.max_logprobs, server.max_schema_bytes, settings.retrieval.max_top_k)
        sinks = (metrics, ledger, LogSink(prices))
        runtime = Runtime(catalogue, engine, knowledge, settings.retrieval.instructions, meter, prices, sinks, limits)
        yield Gateway(settings, catalogue, engine, knowledge, retriever, Completions(runtime), keys, metrics, limits)


def open_store(settings: Settings) -> tuple[Store, SentenceTransformerEmbedder]:
    """The document store with the embedder it was built with. The caller holds the owner lock."""
    embedder = SentenceTransformerEmbedder(
        settings.retrieval.embedder or packaged_minilm(), threads=settings.retrieval.threads
    )
    return Store(settings.home / "chroma", embedder.fingerprint, embedder.dimensions), embedder


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
        documents = [found for path in source.paths for found in walk(path)]
        for number, (label, path) in enumerate(documents, start=1):
            progress(f"{name}: document {number} of {len(documents)}")
            try:
                retriever.ingest(scope, name, label, path.read_bytes())
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
