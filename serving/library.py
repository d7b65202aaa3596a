"""The documents of a gateway, opened when there are any, or with the first: the libraries that they need are tens of
MiB, the embedder hundreds."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, contextmanager, suppress
from threading import Lock
from typing import TYPE_CHECKING

from retrieval.errors import StoreLocked, UnreadableDocument
from retrieval.folder import read, walk
from retrieval.lock import OwnerLock
from retrieval.model_folder import embedder_name
from retrieval.passages import Scope
from retrieval.sandbox import Limits as ParseLimits
from retrieval.sandbox import Sandbox
from serving.auth import LOCAL_OPERATOR
from serving.engine.protocol import Progress
from serving.knowledge import Knowledge
from serving.sections import Settings
from serving.shelf import Shelf, Threads, configured_folder

if TYPE_CHECKING:
    from retrieval.embedder import Embedder

_SEARCHES = 16  # at a time


class Library:
    """The shelf of a gateway; see Opening. `embedder` replaces the configured one."""

    def __init__(self, settings: Settings, sandbox: Sandbox, embedder: "Embedder | None") -> None:
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
                from serving.shelving import open_shelf

                self._shelf = open_shelf(self._settings, self._sandbox, self._embedder)
            return self._shelf

    def close(self) -> None:
        """If it was opened."""
        if self._shelf is not None:
            self._shelf.store.close()


def has_documents(settings: Settings) -> bool:
    """Whether there may be documents to answer from: they are configured, or on servers, or some were stored before."""
    wish = settings.retrieval
    named = settings.knowledge or any(model.knowledge for model in settings.models.values())
    stored = (settings.home / "chroma" / "chroma.sqlite3").exists()
    return bool(named or stored or wish.chroma_url or wish.reranker or settings.database_url)


async def open_knowledge(
    stack: AsyncExitStack, settings: Settings, progress: Progress, embedder: "Embedder | None"
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


def open_sandbox(settings: Settings) -> Sandbox:
    """Where documents are parsed. The caller closes it."""
    limits = settings.ingestion
    return Sandbox(
        ParseLimits(
            limits.parse_memory_mib, limits.parse_cpu_s, limits.parse_wall_s, settings.server.max_document_bytes
        )
    )


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
