"""Opens the documents as configured, for the gateway and for commands alike: embedder, store, searches, measures.

It brings in all that documents need, tens of MiB of libraries: library.py imports it when there are documents.
"""

from retrieval.batching import BatchingEmbedder
from retrieval.calibrator import Calibrator
from retrieval.chunking import Chunker
from retrieval.embedder import Embedder, SentenceTransformerEmbedder
from retrieval.pipeline import Policy, Retriever
from retrieval.postgres import Postgres
from retrieval.reranker import Rerank, open_reranker
from retrieval.reranking import Reranking
from retrieval.sandbox import Sandbox
from retrieval.selection import Limits as SearchLimits
from retrieval.store import Servers, Store
from retrieval.vectors import ChromaServer
from serving.sections import Settings
from serving.shelf import Measures, Shelf, configured_folder


def open_shelf(settings: Settings, sandbox: Sandbox, embedder: Embedder | None) -> Shelf:
    """See Opening. `embedder` replaces the configured one."""
    store, chosen = open_store(settings, embedder)
    retriever = build_retriever(settings, store, chosen, sandbox)
    return Shelf(retriever, store, chosen, open_measures(settings, retriever, store, chosen))


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


def open_measures(settings: Settings, retriever: Retriever, store: Store, embedder: Embedder) -> Measures:
    """With what is kept under home, and the configured reranker. Raises RerankerUnusable."""
    calibrator = Calibrator(settings.home / "calibration", retriever, store, embedder)
    rerank = configured_rerank(settings)
    return Measures(calibrator, Reranking(settings.home / "reranking", retriever, store, embedder.fingerprint, rerank))


def configured_rerank(settings: Settings) -> Rerank | None:
    """The reranker that may be used. Raises RerankerUnusable."""
    wish = settings.retrieval
    return Rerank(open_reranker(wish.reranker, wish.threads), wish.rerank_depth) if wish.reranker else None


def open_embedder(settings: Settings) -> Embedder:
    """The configured embedding model, or the packaged one."""
    wish = settings.retrieval
    return SentenceTransformerEmbedder(configured_folder(settings), device=wish.device, threads=wish.threads)


def build_retriever(settings: Settings, store: Store, embedder: Embedder, sandbox: Sandbox) -> Retriever:
    """Searches as configured."""
    wish = settings.retrieval
    policy = Policy(wish.search, SearchLimits(wish.per_source, wish.duplicate, wish.neighbours))
    return Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens), policy, sandbox)
