"""What goes into retrieval and what comes out of it.

Apart from what does the work, so that whoever hands these on loads neither numpy nor an index.
"""

from dataclasses import dataclass, field
from typing import Literal

Status = Literal["added", "updated", "unchanged"]


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage found. `score` is the cosine similarity to the question, in [-1, 1]."""

    id: str
    knowledge: str
    source: str
    title: str
    heading: str
    text: str
    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class Scope:
    """Who asks. Comes from authentication, never from the request's body."""

    tenant: str
    groups: frozenset[str]


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one document."""

    source: str
    status: Status
    chunks: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Retrieval:
    """`passages` best first, each found at or above the minimum score; `best_score` is the highest cosine of any that
    the caller may see, even if it was below: None only if he may see nothing there. `rerank_seconds` is None where
    nothing was reranked. `seconds` by stage (embed, dense, lexical, fuse, rerank, select)."""

    passages: tuple[Passage, ...]
    best_score: float | None
    embed_seconds: float
    search_seconds: float
    rerank_seconds: float | None = None
    seconds: dict[str, float] = field(default_factory=dict, compare=False)
