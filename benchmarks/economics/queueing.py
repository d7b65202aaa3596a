"""Waiting in front of a fleet, in closed form: the check on whether the staircase leaves enough room (formula 3).

A replica counts as one server whose service time is the query's demand. Continuous batching shares the machine instead
of queueing, so these are waits for GPU time, not measured latencies: what decides a fleet is the measured sweep.
"""

import math
from dataclasses import dataclass

from benchmarks.errors import ModelError


def erlang_c(servers: int, offered: float) -> float:
    """Probability that an arrival waits, Poisson arrivals and exponential service. `offered` = rate x service time."""
    if servers < 1 or offered < 0:
        raise ModelError("a queue needs at least one server and a load that is not negative")
    if offered >= servers:
        return 1.0
    blocked = 1.0
    for count in range(1, servers + 1):  # Erlang B by its recursion, which does not overflow as factorials do
        blocked = offered * blocked / (count + offered * blocked)
    return blocked / (1 - offered / servers * (1 - blocked))


def mean_wait_s(servers: int, queries_per_s: float, service_s: float, variability: float = 1.0) -> float:
    """Mean wait for service; infinite at or above saturation.

    `variability` is the mean of the squared coefficients of variation of arrivals and service (Allen-Cunneen): 1 is
    exact for Poisson arrivals and exponential service, other values approximate.
    """
    offered = queries_per_s * service_s
    if offered >= servers:
        return math.inf
    return erlang_c(servers, offered) * service_s / (servers - offered) * variability


def replicas_for_wait(queries_per_s: float, service_s: float, max_wait_s: float, variability: float = 1.0) -> int:
    """The smallest number of replicas whose mean wait is at most `max_wait_s`."""
    if max_wait_s <= 0 or service_s <= 0:
        raise ModelError("the wait allowed and the service time must be above zero")
    servers = max(1, math.floor(queries_per_s * service_s) + 1)
    while mean_wait_s(servers, queries_per_s, service_s, variability) > max_wait_s:
        servers += 1
    return servers


@dataclass(frozen=True, slots=True)
class QueueCheck:
    """A fleet under a rate: how busy, and how long queries wait for GPU time on the mean."""

    servers: int
    utilisation: float
    wait_probability: float
    mean_wait_s: float


def check(servers: int, queries_per_s: float, service_s: float, variability: float = 1.0) -> QueueCheck:
    """What the closed forms say of a fleet that the staircase chose."""
    offered = queries_per_s * service_s
    wait = mean_wait_s(servers, queries_per_s, service_s, variability)
    return QueueCheck(servers, offered / servers, erlang_c(servers, offered), wait)
