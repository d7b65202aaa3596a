"""A queue of queries in front of replicas, played through event by event: the check on the closed forms.

First come, first served; each query takes the replica that is free first. Waits follow from the arrivals and service
times alone, so they are data: measured ones can be replayed.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from benchmarks.errors import ModelError


@dataclass(frozen=True, slots=True)
class Simulated:
    """Waits before service in seconds, and the busy share of the replicas until the last query ended."""

    queries: int
    utilisation: float
    mean_wait_s: float
    p95_wait_s: float
    waited_share: float


def simulate(arrivals_s: Sequence[float], service_s: Sequence[float], servers: int) -> Simulated:
    """Plays queries with the given arrival times (ascending) and service times through `servers` replicas."""
    if servers < 1 or not arrivals_s or len(arrivals_s) != len(service_s):
        raise ModelError("a simulation needs replicas, and as many service times as arrivals, at least one")
    free_at = [0.0] * servers
    waits = np.empty(len(arrivals_s))
    last = 0.0
    for number, (arrival, service) in enumerate(zip(arrivals_s, service_s, strict=True)):
        start = max(arrival, free_at[0])
        heapq.heapreplace(free_at, start + service)
        waits[number] = start - arrival
        last = max(last, start + service)
    return Simulated(
        queries=len(waits),
        utilisation=sum(service_s) / (servers * last) if last else 0.0,
        mean_wait_s=float(waits.mean()),
        p95_wait_s=float(np.percentile(waits, 95)),
        waited_share=float((waits > 0).mean()),
    )


def poisson_arrivals(queries_per_s: float, queries: int, seed: int) -> list[float]:
    """Arrival times of a Poisson process."""
    gaps = np.random.default_rng(seed).exponential(1 / queries_per_s, queries)
    return list(accumulate(gaps.tolist()))


def daily_arrivals(mean_queries_per_s: float, hourly_load: Sequence[float], days: int, seed: int) -> list[float]:
    """Poisson arrivals whose rate follows the hours of a day; `hourly_load` is relative, of any scale."""
    random = np.random.default_rng(seed)
    load = np.asarray(hourly_load, dtype=float)
    rates = mean_queries_per_s * load / load.mean()
    hours = [
        np.sort(hour * 3600 + random.uniform(0, 3600, random.poisson(rates[hour % len(rates)] * 3600)))
        for hour in range(days * len(rates))
    ]
    return [float(time) for time in np.concatenate(hours)]


def exponential_service(mean_s: float, queries: int, seed: int) -> list[float]:
    """Service times of the most variable kind that Erlang's formulas describe."""
    return [float(time) for time in np.random.default_rng(seed).exponential(mean_s, queries)]
