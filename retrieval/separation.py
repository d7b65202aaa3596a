"""How well a score tells questions that the documents answer (covered) from those that they do not. Pure functions.

AUROC is the chance that a covered question scores above an uncovered one, ties counting half. Its interval is DeLong's
variance (DeLong et al. 1988) in Wilson's form, which stays inside [0, 1] and does not shrink to nothing when a small
sample happens to be separated completely.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_Z = 1.959964  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Interval:
    """A share with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Point:
    """What a minimum score would do. `precision`: covered among the answered; `answered`: share of the covered that
    are; `refused`: share of the uncovered that are."""

    min_score: float
    precision: float
    answered: float
    refused: float


def auroc(covered: Sequence[float], uncovered: Sequence[float]) -> Interval:
    """Both must hold a score at least."""
    positive, negative = np.asarray(covered, float), np.asarray(uncovered, float)
    beaten, lost = _placements(positive, negative), 1 - _placements(negative, positive)
    value = float(beaten.mean())
    variance = _variance(beaten) / len(beaten) + _variance(lost) / len(lost)
    smallest = min(len(beaten), len(lost))
    trials = value * (1 - value) / variance if variance > 0 else smallest
    return wilson(value, max(1.0, trials))


def wilson(share: float, trials: float) -> Interval:
    """Wilson's interval of a share seen in `trials`."""
    z = _Z**2 / trials
    middle = (share + z / 2) / (1 + z)
    half = _Z * math.sqrt(share * (1 - share) / trials + z / (4 * trials)) / (1 + z)
    return Interval(round(share, 4), round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4))


def curve(covered: Sequence[float], uncovered: Sequence[float]) -> Iterator[Point]:
    """A point for every minimum score that answers other questions, lowest first. Each lies halfway between two scores
    that were seen, so that a score which differs in its last digit does not change sides."""
    positive, negative = np.sort(covered), np.sort(uncovered)
    seen = np.unique(np.concatenate([positive, negative]))
    borders = np.concatenate([seen[:1], (seen[:-1] + seen[1:]) / 2])
    hits = len(positive) - np.searchsorted(positive, borders)
    slips = len(negative) - np.searchsorted(negative, borders)
    for border, hit, slip in zip(borders.tolist(), hits.tolist(), slips.tolist(), strict=True):
        yield Point(
            min_score=round(border, 5),
            precision=round(hit / (hit + slip), 4),
            answered=round(hit / len(positive), 4),
            refused=round(1 - slip / len(negative), 4),
        )


def _placements(of: NDArray[np.float64], among: NDArray[np.float64]) -> NDArray[np.float64]:
    """For each score of `of`, the share of `among` that lies below it, ties counting half."""
    ordered = np.sort(among)
    below, up_to = np.searchsorted(ordered, of, "left"), np.searchsorted(ordered, of, "right")
    shares: NDArray[np.float64] = (below + up_to) / (2 * len(ordered))
    return shares


def _variance(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else 0.0
