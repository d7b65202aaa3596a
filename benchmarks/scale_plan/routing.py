"""Which replica gets a request: the policies of routers that exist, as rules over the requests outstanding at each."""

import bisect
import math
import random
import zlib
from collections.abc import Callable, Mapping, Sequence

from benchmarks.scale_plan.replica import Replica, Request

Route = Callable[[Sequence[Replica], Request], Replica]

# Points of each replica on the ring of topics: as many as spread them within a tenth or so.
_POINTS = 64
# How far above the mean a replica may be loaded before a request for what it has in its cache goes elsewhere.
_BOUND = 1.25


class Random:
    """A plain Service: each connection anywhere."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # to be repeated

    def __call__(self, replicas: Sequence[Replica], request: Request) -> Replica:
        """One of them."""
        del request
        return replicas[int(self._random.random() * len(replicas))]


class LeastOfTwo:
    """Envoy's LEAST_REQUEST: two at random, and the one with fewer requests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # to be repeated

    def __call__(self, replicas: Sequence[Replica], request: Request) -> Replica:
        """The better of two."""
        del request
        count = len(replicas)
        one = replicas[int(self._random.random() * count)]
        other = replicas[int(self._random.random() * count)]
        return one if one.outstanding <= other.outstanding else other


class Least:
    """The fewest requests of all: what a single router that sees everything can do."""

    def __init__(self, seed: int) -> None:
        del seed

    def __call__(self, replicas: Sequence[Replica], request: Request) -> Replica:
        """The first of the least loaded."""
        del request
        loads = [replica.outstanding for replica in replicas]
        return replicas[loads.index(min(loads))]


class Affinity:
    """Where the prompt's beginning or its adapter was last, unless that replica has too much to do: consistent hashing
    with bounded loads, in place of an endpoint picker's scores."""

    def __init__(self, seed: int) -> None:
        self._two = LeastOfTwo(seed)
        self._members: list[Replica] = []
        self._ring: list[tuple[int, int]] = []

    def __call__(self, replicas: Sequence[Replica], request: Request) -> Replica:
        """The topic's own replica, the next two on the ring, else the better of two."""
        if replicas != self._members:
            self._members = list(replicas)
            self._ring = sorted(
                (zlib.crc32(f"{replica.number}/{point}".encode()), at)
                for at, replica in enumerate(replicas)
                for point in range(_POINTS)
            )
        most = math.ceil(_BOUND * (sum(replica.outstanding for replica in replicas) + 1) / len(replicas))
        start = bisect.bisect(self._ring, (zlib.crc32(f"topic {request.topic}".encode()), 0))
        for step in range(3):
            replica = replicas[self._ring[(start + step) % len(self._ring)][1]]
            if replica.outstanding < most:
                return replica
        return self._two(replicas, request)


ROUTERS: Mapping[str, Callable[[int], Route]] = {
    "random": Random,
    "least of two (Envoy)": LeastOfTwo,
    "least requests": Least,
    "prefix or adapter affinity": Affinity,
}
