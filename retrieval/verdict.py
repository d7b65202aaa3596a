"""Whether a reranker puts the right documents higher, beyond chance. Pure functions, and the verdict that is kept.

The same questions are ranked with and without it, and the differences of each question's nDCG@10 are resampled (paired
bootstrap, percentiles). Better is what an interval of 95 % says that lies above zero altogether.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np

from retrieval.separation import Interval

CUTOFF = 10
_RESAMPLES, _AT_ONCE = 10_000, 100
_SEED = 0


@dataclass(frozen=True, slots=True)
class Comparison:
    """Mean nDCG@10 of the same questions without and with a reranker; `difference` with its 95 % interval."""

    questions: int
    without: float
    reranked: float
    difference: Interval

    @property
    def better(self) -> bool:
        """Beyond chance."""
        return self.difference.low > 0

    def told(self) -> str:
        """The figures and what they say."""
        low, high = self.difference.low, self.difference.high
        finding = "better" if self.better else "worse" if high < 0 else "not better beyond chance"
        return (
            f"nDCG@{CUTOFF} {self.without:.4f} without, {self.reranked:.4f} with: {self.difference.value:+.4f} "
            f"(95 %: {low:+.4f} to {high:+.4f}, {self.questions} questions), {finding}"
        )


@dataclass(frozen=True, slots=True)
class Setup:
    """What a verdict holds for: another reranker, embedder or way of searching needs another one."""

    reranker: str
    embedder: str
    search: str
    depth: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """A comparison on one knowledge base. `reranker` is its name, `setup` has fingerprints. `documents` identifies each
    document by source and content."""

    tenant: str
    knowledge: str
    reranker: str
    setup: Setup
    comparison: Comparison
    better: bool
    questions_sha256: str
    created: str
    documents: tuple[str, ...]
    passages: int

    def summary(self) -> dict[str, Any]:
        """All but the long list of documents."""
        return {**asdict(self), "documents": len(self.documents), "told": self.comparison.told()}

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError for anything else than `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        comparison = fields["comparison"]
        comparison["difference"] = Interval(**comparison["difference"])
        fields["comparison"], fields["setup"] = Comparison(**comparison), Setup(**fields["setup"])
        fields["documents"] = tuple(fields["documents"])
        return cls(**fields)


def compare(without: Sequence[float], reranked: Sequence[float]) -> Comparison:
    """From the scores of the same questions in the same order, at least one."""
    plain, other = np.asarray(without, float), np.asarray(reranked, float)
    differences = other - plain
    chance = np.random.default_rng(_SEED)
    means = np.concatenate(
        [chance.choice(differences, (_AT_ONCE, len(differences))).mean(axis=1) for _ in range(_RESAMPLES // _AT_ONCE)]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    interval = Interval(*(round(float(each), 4) for each in (differences.mean(), low, high)))
    return Comparison(len(differences), round(float(plain.mean()), 4), round(float(other.mean()), 4), interval)


def ndcg(ranked: Sequence[str], relevant: frozenset[str]) -> float:
    """nDCG@10 of a ranking in which a document is relevant or not; `relevant` must not be empty."""
    gain = sum(1 / math.log2(place + 1) for place, one in enumerate(ranked[:CUTOFF], start=1) if one in relevant)
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(CUTOFF, len(relevant)) + 1))
    return gain / ideal
