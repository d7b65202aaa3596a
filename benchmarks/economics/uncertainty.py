"""How sure an answer is: resampled measurements, and draws over everything uncertain (formula 12). All seeded."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from benchmarks.economics.bills import hosted_bill, self_hosted
from benchmarks.economics.break_even import break_even
from benchmarks.economics.scenario import Scenario, figures, limits, with_values
from benchmarks.errors import ModelError

# With more draws than this that never cross, an upper bound would be a pretence.
NEVER_TOLERATED = 0.025
_INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Bounds:
    """A statistic and the percentiles 2.5 and 97.5 of its resamples."""

    value: float
    low: float
    high: float


def bootstrap(
    values: Sequence[float], statistic: Callable[[NDArray[np.float64]], float], draws: int = 1000, seed: int = 0
) -> Bounds:
    """Of independent values, such as the repeats at a rate (five at least, or the bounds say little)."""
    data = np.asarray(values, dtype=float)
    if len(data) < 2:
        raise ModelError("a bootstrap needs at least two values; repeat the measurement")
    random = np.random.default_rng(seed)
    drawn = [statistic(random.choice(data, len(data))) for _ in range(draws)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Bounds(float(statistic(data)), float(low), float(high))


def block_bootstrap(
    times_s: Sequence[float],
    values: Sequence[float],
    statistic: Callable[[NDArray[np.float64]], float],
    block_s: float = 30.0,
    draws: int = 1000,
    seed: int = 0,
) -> Bounds:
    """Of a series in time, whose neighbours are alike (queues build up): whole blocks are resampled."""
    if len(times_s) != len(values):
        raise ModelError("a series needs one value per time")
    data = np.asarray(values, dtype=float)
    block_of = np.floor(np.asarray(times_s, dtype=float) / block_s)
    blocks = [data[block_of == block] for block in np.unique(block_of)]
    if len(blocks) < 2:
        raise ModelError(f"the series is shorter than two blocks of {block_s:g} s; measure longer")
    random = np.random.default_rng(seed)
    drawn = [
        statistic(np.concatenate([blocks[index] for index in random.integers(len(blocks), size=len(blocks))]))
        for _ in range(draws)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Bounds(float(statistic(data)), float(low), float(high))


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Percentiles 5, 50 and 95 of a break-even volume, queries a month; None: no such volume in that many draws.

    `never_share` of the draws had none at all; above 2.5 % the interval is open-ended (`p95` is None).
    """

    p5: float | None
    p50: float | None
    p95: float | None
    never_share: float

    @property
    def open_ended(self) -> bool:
        """Without an upper bound."""
        return self.p95 is None


@dataclass(frozen=True, slots=True)
class Draws:
    """Break-even volumes of each draw, infinite where there is none, and the saving at `volume` in USD a month."""

    first: tuple[float, ...]
    safe: tuple[float, ...]
    saved_usd: tuple[float, ...]
    volume: Decimal
    seed: int

    @property
    def pays_share(self) -> float:
        """Share of the draws in which self-hosting costs no more than the hosted model at `volume`."""
        return sum(saved >= 0 for saved in self.saved_usd) / len(self.saved_usd)

    @property
    def first_quantiles(self) -> Quantiles:
        """Of V_first."""
        return quantiles(self.first)

    @property
    def safe_quantiles(self) -> Quantiles:
        """Of V_safe."""
        return quantiles(self.safe)

    @property
    def saved_bounds(self) -> tuple[float, float, float]:
        """Percentiles 5, 50 and 95 of the saving at `volume`, USD a month."""
        low, middle, high = np.percentile(self.saved_usd, [5, 50, 95])
        return float(low), float(middle), float(high)


def quantiles(volumes: Sequence[float]) -> Quantiles:
    """Percentiles of volumes that may be infinite."""
    never = sum(volume == _INFINITE for volume in volumes) / len(volumes)
    # The nearest of the draws, since nothing lies between a volume and infinity.
    p5, p50, p95 = (float(np.percentile(volumes, share, method="inverted_cdf")) for share in (5, 50, 95))
    return Quantiles(_finite(p5), _finite(p50), None if never > NEVER_TOLERATED else _finite(p95), never)


def _finite(volume: float) -> float | None:
    return None if volume == _INFINITE else volume


def monte_carlo(scenario: Scenario, volume: Decimal, draws: int = 1000, seed: int = 0) -> Draws:
    """Draws every uncertain figure by itself, triangular over its bounds, and solves each draw exactly."""
    first, safe, saved = [], [], []
    for drawn in drawn_scenarios(scenario, draws, seed):
        own, hosted = self_hosted(drawn), hosted_bill(drawn)
        found = break_even(own, hosted)
        first.append(_INFINITE if found.first is None else float(found.first))
        safe.append(_INFINITE if found.safe is None else float(found.safe))
        saved.append(float(hosted.usd(volume) - own.usd(volume)))
    return Draws(tuple(first), tuple(safe), tuple(saved), volume, seed)


def drawn_scenarios(scenario: Scenario, draws: int, seed: int) -> Iterator[Scenario]:
    """The scenario with every uncertain figure drawn, so many times."""
    random = np.random.default_rng(seed)
    uncertain: dict[str, list[float]] = {}
    for name, figure in figures(scenario).items():
        (low, high), (least, most) = figure.bounds(), limits(name)
        if low < high:
            column = random.triangular(float(low), float(figure.value), float(high), draws)
            uncertain[name] = column.clip(float(least), float(most)).tolist()
    for number in range(draws):
        yield with_values(scenario, {name: Decimal(column[number]) for name, column in uncertain.items()})


@dataclass(frozen=True, slots=True)
class Band:
    """Percentiles 5 and 95 of the two bills at some volumes, USD a month."""

    volumes: tuple[float, ...]
    own_usd: tuple[tuple[float, float], ...]
    hosted_usd: tuple[tuple[float, float], ...]


def bill_band(scenario: Scenario, volumes: Sequence[Decimal], draws: int = 200, seed: int = 0) -> Band:
    """How far both bills may lie from the drawn curves; the draws are those of the break-even volumes."""
    own: list[list[float]] = []
    hosted: list[list[float]] = []
    for drawn in drawn_scenarios(scenario, draws, seed):
        mine, theirs = self_hosted(drawn), hosted_bill(drawn)
        own.append([float(mine.usd(volume)) for volume in volumes])
        hosted.append([float(theirs.usd(volume)) for volume in volumes])
    return Band(tuple(map(float, volumes)), _edges(own), _edges(hosted))


def _edges(drawn: Sequence[Sequence[float]]) -> tuple[tuple[float, float], ...]:
    low, high = np.percentile(np.asarray(drawn), [5, 95], axis=0)
    return tuple(zip(map(float, low), map(float, high), strict=True))
