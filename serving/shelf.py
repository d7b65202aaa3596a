"""What documents need while a gateway runs: the opened store with its embedder, and threads for the work on them."""

from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from retrieval.model_folder import packaged_minilm
from serving.sections import Settings

if TYPE_CHECKING:  # they bring the libraries that documents need
    from retrieval.calibrator import Calibrator
    from retrieval.embedder import Embedder
    from retrieval.pipeline import Retriever
    from retrieval.reranking import Reranking
    from retrieval.store import Store


@dataclass(frozen=True, slots=True)
class Threads:
    """Where the blocking work is done: ingestion apart, so that questions never wait behind documents."""

    search: Executor
    ingestion: Executor


@dataclass(frozen=True, slots=True)
class Measures:
    """What is measured per knowledge base: its minimum score, and whether reranking helps."""

    calibrator: "Calibrator"
    reranking: "Reranking"


@dataclass(frozen=True, slots=True)
class Shelf:
    """What is opened to keep documents and to search them: hundreds of MiB, most of them the embedder's."""

    retriever: "Retriever"
    store: "Store"
    embedder: "Embedder"
    measures: Measures


class Opening(Protocol):
    """Opens the shelf when it is first asked for, which takes seconds; later calls give the same. Thread-safe."""

    @property
    def opened(self) -> bool:
        """Whether it was asked for. If not, there are no documents: a store that has some is opened at start."""
        ...

    def __call__(self) -> Shelf:
        """Raises RetrievalError."""
        ...


def configured_folder(settings: Settings) -> Path:
    """Of the embedding model."""
    return settings.retrieval.embedder or packaged_minilm()
