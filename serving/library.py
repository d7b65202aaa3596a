"""Opens the documents as configured: embedder, store, parser and searches, for the gateway and for commands alike."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress

from retrieval.batching import BatchingEmbedder
from retrieval.calibrator import Calibrator
from retrieval.chunking import Chunker
from retrieval.embedder import Embedder, SentenceTransformerEmbedder, packaged_minilm
from retrieval.errors import StoreLocked, UnreadableDocument
from retrieval.folder import read, walk
from retrieval.lock import OwnerLock
from retrieval.pipeline import Policy, Retriever, Scope
from retrieval.postgres import Postgres
from retrieval.reranker import Rerank, open_reranker
from retrieval.reranking import Reranking
from retrieval.sandbox import Limits as ParseLimits
from retrieval.sandbox import Sandbox
from retrieval.selection import Limits as SearchLimits
from retrieval.store import Servers, Store
from retrieval.vectors import ChromaServer
from serving.auth import LOCAL_OPERATOR
from serving.engine.protocol import Progress
from serving.knowledge import Knowledge, Measures, Threads
from serving.sections import Settings

_SEARCHES = 16  # at a time


async def open_knowledge(
    stack: AsyncExitStack, settings: Settings, progress: Progress, embedder: Embedder | None
) -> tuple[Retriever, Knowledge]:
    """The retriever, and what requests use of it, until `stack` ends. `embedder` replaces the configured one."""
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
    measures = await asyncio.to_thread(open_measures, settings, retriever, store, chosen)
    threads = Threads(executor, ingestion)
    return retriever, Knowledge(retriever, store, chosen, threads, settings.retrieval, measures)


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


def open_measures(settings: Settings, retriever: Retriever, store: Store, embedder: Embedder) -> Measures:
    """With what is kept under home, and the configured reranker. Raises RerankerUnusable."""
    calibrator = Calibrator(settings.home / "calibration", retriever, store, embedder)
    rerank = configured_rerank(settings)
    return Measures(calibrator, Reranking(settings.home / "reranking", retriever, store, embedder.fingerprint, rerank))


def configured_rerank(settings: Settings) -> Rerank | None:
    """The reranker that may be used. Raises RerankerUnusable."""
    wish = settings.retrieval
    return Rerank(open_reranker(wish.reranker, wish.threads), wish.rerank_depth) if wish.reranker else None


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
