"""Opens the documents as configured: embedder, store, parser and searches, for the gateway and for commands alike."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock

from retrieval.batching import BatchingEmbedder
from retrieval.calibrator import Calibrator
from retrieval.chunking import Chunker
from retrieval.embedder import Embedder, SentenceTransformerEmbedder, embedder_name, packaged_minilm
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
from serving.knowledge import Knowledge
from serving.sections import Settings
from serving.shelf import Measures, Shelf, Threads

_SEARCHES = 16  # at a time


class Library:
    """The shelf of a gateway; see Opening. `embedder` replaces the configured one."""

    def __init__(self, settings: Settings, sandbox: Sandbox, embedder: Embedder | None) -> None:
        self._settings, self._sandbox, self._embedder = settings, sandbox, embedder
        self._lock = Lock()
        self._shelf: Shelf | None = None

    @property
    def opened(self) -> bool:
        """See Opening."""
        return self._shelf is not None

    def __call__(self) -> Shelf:
        """See Opening."""
        with self._lock:
            if self._shelf is None:
                self._shelf = self._open()
            return self._shelf

    def close(self) -> None:
        """If it was opened."""
        if self._shelf is not None:
            self._shelf.store.close()

    def _open(self) -> Shelf:
        store, chosen = open_store(self._settings, self._embedder)
        retriever = build_retriever(self._settings, store, chosen, self._sandbox)
        return Shelf(retriever, store, chosen, open_measures(self._settings, retriever, store, chosen))


def has_documents(settings: Settings) -> bool:
    """Whether there may be documents to answer from: they are configured, or on servers, or some were stored before."""
    wish = settings.retrieval
    named = settings.knowledge or any(model.knowledge for model in settings.models.values())
    stored = (settings.home / "chroma" / "chroma.sqlite3").exists()
    return bool(named or stored or wish.chroma_url or wish.reranker or settings.database_url)


async def open_knowledge(
    stack: AsyncExitStack, settings: Settings, progress: Progress, embedder: Embedder | None
) -> tuple[Library, Knowledge]:
    """The documents, and what requests use of them, until `stack` ends. `embedder` replaces the configured one."""
    # More than cores: threads that wait for the embedder are what it makes its batches of.
    executor = ThreadPoolExecutor(max_workers=_SEARCHES, thread_name_prefix="retrieval")
    stack.callback(executor.shutdown, cancel_futures=True)
    ingestion = ThreadPoolExecutor(max_workers=2, thread_name_prefix="ingestion")
    stack.callback(ingestion.shutdown, cancel_futures=True)
    sandbox = open_sandbox(settings)
    stack.callback(sandbox.close)  # before the executor waits: a file that is being parsed is given up
    library = Library(settings, sandbox, embedder)
    stack.callback(library.close)
    if embedder is not None or has_documents(settings):
        progress("loading the embedder and opening the store")
        await asyncio.to_thread(library)
    name = embedder.name if embedder is not None else embedder_name(configured_folder(settings))
    return library, Knowledge(library, name, Threads(executor, ingestion), settings.retrieval)


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
    return SentenceTransformerEmbedder(configured_folder(settings), device=wish.device, threads=wish.threads)


def configured_folder(settings: Settings) -> Path:
    """Of the embedding model."""
    return settings.retrieval.embedder or packaged_minilm()


def build_retriever(settings: Settings, store: Store, embedder: Embedder, sandbox: Sandbox) -> Retriever:
    """Searches as configured."""
    wish = settings.retrieval
    policy = Policy(wish.search, SearchLimits(wish.per_source, wish.duplicate, wish.neighbours))
    return Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens), policy, sandbox)


def fill_knowledge(settings: Settings, library: Library, progress: Progress) -> list[str]:
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
                library().retriever.ingest(scope, name, label, read(label, path, settings.server.max_document_bytes))
            except UnreadableDocument as error:
                failures.append(str(error))
    return failures
