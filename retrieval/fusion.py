"""One order from two searches: a weighted sum of cosine similarity and BM25.

Each score is stretched from its least possible value (-1, 0) to the best of its kind for this question. So the order
does not depend on how many candidates were looked at, which min-max, z-scores and ranks do. Method and weight are those
of Bruch et al., "An Analysis of Fusion Functions for Hybrid Retrieval" (2022), where they were the most robust across
domains. We compared them with other rules and weights on SciFact and Cranfield before keeping them (results in
benchmarks/results/retrieval).
"""

from collections.abc import Callable, Mapping

DENSE_WEIGHT = 0.8
_LEAST_COSINE = -1.0


def fuse(dense: Mapping[str, float], lexical: Mapping[str, float], weight: float = DENSE_WEIGHT) -> list[str]:
    """The ids of `dense` (cosine by id), best first. `lexical` has BM25 by id; an id that it lacks has none.

    Equal sums stand in the order of their ids, so that the same question always finds the same passages.
    """
    score = _scorer(dense, lexical, weight)
    return sorted(dense, key=lambda id: (-score(id, dense[id]), id))


def promising(
    dense: Mapping[str, float], lexical: Mapping[str, float], first: int, weight: float = DENSE_WEIGHT
) -> list[str]:
    """The ids of `lexical` that `dense` lacks and that could be among the `first` best, were their cosines known.

    `dense` are the nearest there are, so no other is nearer than the farthest of them.
    """
    others = [id for id in lexical if id not in dense]
    if len(dense) < first:
        return others
    score = _scorer(dense, lexical, weight)
    last = sorted((score(id, cosine) for id, cosine in dense.items()), reverse=True)[first - 1]
    farthest = min(dense.values())
    return [id for id in others if score(id, farthest) >= last]


def _scorer(dense: Mapping[str, float], lexical: Mapping[str, float], weight: float) -> Callable[[str, float], float]:
    """(id, its cosine) -> the weighted sum."""
    nearest = max(dense.values(), default=0.0) - _LEAST_COSINE or 1.0
    best_words = max(lexical.values(), default=0.0) or 1.0

    def score(id: str, cosine: float) -> float:
        return weight * (cosine - _LEAST_COSINE) / nearest + (1 - weight) * lexical.get(id, 0.0) / best_words

    return score
