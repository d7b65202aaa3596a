"""Figures with their uncertainty: Wilson's interval for shares, a bootstrap for everything else."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from adapters.manifest import Measurement, Score
from adapters.scoring import wilson

_RESAMPLES = 2000
_SEED = 0

# Positions of the cases that a resample drew, in no order and with repetitions.
Draw = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Figure:
    """`value` of `n` cases with its 95 % interval; `unit` is None for what lies between 0 and 1 and is best at 1."""

    name: str
    value: float
    n: int
    low: float
    high: float
    unit: str | None = None

    def entry(self, command: str, commit: str) -> Score | Measurement:
        """As manifests keep it."""
        kept: dict[str, Any] = {"name": self.name, "n": self.n, "command": command, "commit": commit}
        kept |= {"value": round(self.value, 6), "low": round(self.low, 6), "high": round(self.high, 6)}
        return Score(**kept) if self.unit is None else Measurement(unit=self.unit, **kept)

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.name}: {self.value:.4g}{unit} (n {self.n}, 95 %: {self.low:.4g} to {self.high:.4g})"


def share(name: str, hits: Sequence[bool]) -> Figure:
    """The share of true ones; `hits` is not empty."""
    low, high = wilson(sum(hits), len(hits))
    return Figure(name, sum(hits) / len(hits), len(hits), low, high)


def bootstrap(name: str, statistic: Callable[[Draw], float], n: int, unit: str | None = None) -> Figure:
    """`statistic` of all `n` cases, and the middle 95 % of what it is on resamples of them (percentile method)."""
    chance = np.random.default_rng(_SEED)
    value = statistic(np.arange(n))
    drawn = [statistic(chance.integers(0, n, n)) for _ in range(_RESAMPLES)]
    low, high = (float(edge) for edge in np.quantile(drawn, (0.025, 0.975)))
    # A statistic such as macro-F1 is biased downwards on resamples; the interval still has to hold the value.
    return Figure(name, value, n, min(low, value), max(high, value), unit)


def mean(name: str, values: Sequence[float], unit: str | None = None) -> Figure:
    """The mean of one value per case."""
    array = np.asarray(values, dtype=float)
    return bootstrap(name, lambda draw: float(array[draw].mean()), len(array), unit)
