"""When requests start: users who wait for their answers, a random clock, or a recorded day.

Open loops and replays fix every start beforehand, so that neither a slow server nor a slow generator can thin the load
out: latency counts from the intended start.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.errors import PlanError


@dataclass(frozen=True)
class Closed:
    """So many users who each wait for the answer before asking again: the load falls when the server slows down."""

    concurrency: int

    def __post_init__(self) -> None:
        if self.concurrency < 1:
            raise PlanError("--concurrency must be at least 1")

    def __str__(self) -> str:
        return f"closed loop, {self.concurrency} at a time"


@dataclass(frozen=True)
class Open:
    """Arrivals at `rate` a second, whatever the server does. The times between them follow a gamma distribution of
    shape `burstiness`: 1 is Poisson, below it they come in bursts, above it more evenly (as in `vllm bench serve`)."""

    rate: float
    burstiness: float = 1.0

    def __post_init__(self) -> None:
        if self.rate <= 0 or self.burstiness <= 0:
            raise PlanError("--rate and --burstiness must be above zero")

    def __str__(self) -> str:
        kind = "Poisson" if self.burstiness == 1 else f"gamma (burstiness {self.burstiness:g})"
        return f"open loop, {kind}, {self.rate:g} req/s"


@dataclass(frozen=True)
class Replay:
    """The arrivals of a trace, `speed` times as fast. `starts_s` count from the window's beginning, before that."""

    starts_s: tuple[float, ...]
    source: str
    speed: float = 1.0
    window: str | None = None

    def __post_init__(self) -> None:
        if self.speed <= 0:
            raise PlanError("--speed must be above zero")

    def __str__(self) -> str:
        part = f", window {self.window} s" if self.window else ""
        return f"replay of {self.source}{part}, speed {self.speed:g}, {len(self.starts_s)} requests"


Load = Closed | Open | Replay


def starts(load: Open | Replay, seed: int) -> Iterator[float]:
    """Seconds from the run's beginning at which requests start; for ever unless it is a replay."""
    if isinstance(load, Replay):
        yield from (at / load.speed for at in load.starts_s)
        return
    source = random.Random(seed)
    at = 0.0
    while True:
        at += source.gammavariate(load.burstiness, 1 / (load.rate * load.burstiness))
        yield at
