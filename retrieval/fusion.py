"""One order from two searches: a weighted sum of cosine similarity and BM25.

Each score is stretched from its least possible value (-1, 0) to the best of its kind for this question. So the order
does not depend on how many candidates were looked at, which min-max, z-scores and ranks do. Method and weight are those
of Bruch et al., "An Analysis of Fusion Functions for Hybrid Retrieval" (2022), where they were the most robust across
domains. We compared them with other rules and weights on SciFact and Cranfield before keeping them (results in
benchmarks/results/retrieval).
"""

from collections.abc import Mapping

DENSE_WEIGHT = 0.8
_LEAST_COSINE = -1.0


def fuse(dense: Mapping[str, float], lexical: Mapping[str, float], weight: float = DENSE_WEIGHT) -> list[str]:
    """The ids of `dense` (cosine by id), best first. `lexical` has BM25 by id; an id that it lacks has none.

    Equal sums stand in the order of their ids, so that the same question always finds the same passages.
    """
    nearest = max(dense.values(), default=0.0) - _LEAST_COSINE or 1.0
    best_words = max(lexical.values(), default=0.0) or 1.0

    def score(id: str) -> float:
        return weight * (dense[id] - _LEAST_COSINE) / nearest + (1 - weight) * lexical.get(id, 0.0) / best_words

    return sorted(dense, key=lambda id: (-score(id), id))
