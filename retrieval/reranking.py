"""Decides where the configured reranker is used: only on knowledge bases where it was measured to be better.

A reranker that suits one set of documents makes another one worse, and it always costs time. So it is off until a
verdict on the knowledge base itself, with this reranker and this way of searching, says that it helps beyond chance.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from retrieval.errors import RerankingFailed
from retrieval.kept import MAX_DRIFT, Kept, Kind, identities
from retrieval.passages import Scope
from retrieval.pipeline import Policy, Retriever
from retrieval.questions import LabelledQuestion
from retrieval.reranker import Rerank
from retrieval.selection import Limits
from retrieval.store import Store
from retrieval.verdict import CUTOFF, Setup, Verdict, compare, ndcg

FEWEST = 30  # questions; with fewer, resampling them says little about others
NOT_CONFIGURED = "no reranker is configured: set retrieval.reranker to a folder or a hub id"
COMMAND = "breakeven eval rerank --knowledge {} --questions FILE"
# Documents are judged, so each counts once and none is hidden as the copy of another.
JUDGED = Limits(per_source=1, duplicate=2.0, neighbours=0)


@dataclass(frozen=True, slots=True)
class Step:
    """`done` of `total` questions; the last step carries the verdict."""

    done: int
    total: int
    verdict: Verdict | None = None


class Reranking:
    """Thread-safe. `folder` is home/reranking; `rerank` None: nothing is configured, and nothing is ever reranked."""

    def __init__(self, folder: Path, retriever: Retriever, store: Store, embedder: str, rerank: Rerank | None) -> None:
        self._plain, self._store, self._rerank = retriever, store, rerank
        self._reranked = retriever.with_policy(replace(retriever.policy, rerank=rerank))
        fingerprint = rerank.reranker.fingerprint if rerank else ""
        self._setup = Setup(fingerprint, embedder, retriever.policy.mode, rerank.depth if rerank else 0)
        self._kept = Kept(folder, store, Kind(Verdict.from_json, self._refuse, _outdated, COMMAND.format("NAME")))

    def retriever(self, tenant: str, knowledge: str) -> Retriever:
        """The one to search a knowledge base with. May read its list of documents, so not for the event loop."""
        return self._reranked if self.used(tenant, knowledge) else self._plain

    def used(self, tenant: str, knowledge: str) -> bool:
        """Whether searches of a knowledge base are reranked."""
        if self._rerank is None:
            return False
        drift = self._kept.drift(tenant, knowledge)  # first: this is where another gateway's verdict is noticed
        verdict = self._kept.current(tenant, knowledge)
        return verdict is not None and verdict.better and (drift or 0.0) <= MAX_DRIFT

    def verdict(self, tenant: str, knowledge: str) -> Verdict | None:
        """The one on the reranker that is configured."""
        return self._kept.current(tenant, knowledge)

    def how(self, knowledge: str) -> str:
        """The command that measures it."""
        return COMMAND.format(knowledge)

    def note(self) -> str | None:
        """A line for whoever starts the gateway, if a configured reranker is off somewhere."""
        if self._rerank is None:
            return None
        bases = self._store.all_knowledge_bases()
        off = [base for base in bases if not self.used(*base)]
        if bases and not off:
            return None
        return (
            f"the reranker {self._rerank.reranker.name} is off for {len(off)} of {len(bases)} knowledge bases: it is "
            f"used where it is measured to be better, by `{COMMAND.format('NAME')}`"
        )

    def run(self, scope: Scope, knowledge: str, questions: Sequence[LabelledQuestion]) -> Iterator[Step]:
        """Searches for each question without and with the reranker; the last step's verdict is kept and in force.

        Raises UnknownKnowledge, RerankingFailed.
        """
        if self._rerank is None:
            raise RerankingFailed(NOT_CONFIGURED)
        documents = self._store.documents(scope.tenant, knowledge)
        asked = _relevant(questions, {info.source for info in documents})
        judged = Policy(self._plain.policy.mode, JUDGED)
        plain = self._plain.with_policy(judged)
        reranked = self._plain.with_policy(replace(judged, rerank=self._rerank))
        without: list[float] = []
        with_it: list[float] = []
        for text, files in asked.items():
            for retriever, scores in ((plain, without), (reranked, with_it)):
                found = retriever.search(scope, knowledge, text, CUTOFF, -1.0)
                scores.append(ndcg([passage.source for passage in found.passages], files))
            yield Step(len(without), len(asked))
        comparison = compare(without, with_it)
        verdict = Verdict(
            tenant=scope.tenant,
            knowledge=knowledge,
            reranker=self._rerank.reranker.name,
            setup=self._setup,
            comparison=comparison,
            better=comparison.better,
            questions_sha256=hashlib.sha256(
                json.dumps([[text, sorted(files)] for text, files in asked.items()]).encode()
            ).hexdigest(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            documents=tuple(identities(documents)),
            passages=sum(info.chunks for info in documents),
        )
        self._kept.keep(verdict)
        yield Step(len(without), len(asked), verdict)

    def _refuse(self, verdict: Verdict) -> str | None:
        if self._rerank is None or verdict.setup == self._setup:
            return None
        return "it was measured with another reranker, embedder or way of searching"


def _relevant(questions: Sequence[LabelledQuestion], sources: set[str]) -> dict[str, frozenset[str]]:
    """Question -> the documents that answer it. Questions that none answers say nothing about an order."""
    asked: dict[str, frozenset[str]] = {}
    for one in questions:
        if one.file:
            asked[one.question] = asked.get(one.question, frozenset()) | {one.file}
    if absent := sorted(set[str]().union(*asked.values()) - sources):
        raise RerankingFailed(f"there is no document {absent[0]!r} in it; name files as they were ingested")
    if len(asked) < FEWEST:
        raise RerankingFailed(f"there are {len(asked)} questions that name their file; give at least {FEWEST}")
    return asked


def _outdated(knowledge: str, drift: float) -> str:
    return (
        f"{drift:.0%} of the documents in '{knowledge}' are others than when reranking was measured, so it is off; "
        f"run `{COMMAND.format(knowledge)}` again"
    )
