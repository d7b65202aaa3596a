"""Divides the accelerator's time among requests so that the parts add up to the bill.

At any moment the time is busy if a request is in the engine; else it belongs to the host if the machine embeds,
searches or reranks for one; else it is idle. Busy time is split evenly among the requests then in the engine, and the
host's time among those it works for: who retrieves while the engine works for others pays nothing, since that time is
paid. A virtual clock that runs at 1/n with n requests makes that exact and constant-time: a request's share is the
clock at its end less the clock at its start.

Idle time collects in a pool. A request that completes takes `idle/busy` of the recent past (exponentially faded) times
its own busy share, never more than the pool holds; one that fails or is cancelled takes none. So at every moment, with
nothing counted twice:

    billed = busy + host + idle
    busy   = shares of ended requests + shares of running ones, and so the host's
    idle   = shares of ended requests + what is left in the pool
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from serving.accounting.engine_rates import EngineRates
from serving.accounting.record import Share, Unfinished


@dataclass(frozen=True, slots=True)
class Bill:
    """Accelerator seconds since the meter started, times the number of accelerators."""

    billed_s: float
    busy_s: float
    idle_s: float
    unallocated_idle_s: float
    host_s: float = 0.0


class Running(Protocol):
    """A request that is being answered."""

    def unfinished(self) -> Unfinished:
        """What to remember of it should the process be killed now."""


class Meter:
    """Not thread-safe: it belongs to the event loop. `accelerators` multiplies every second; it is this gateway's part
    of what `sharers` gateways pay for together.

    `running_requests`: those whose shares are not in a record yet, by their ids; they put and remove themselves.
    `rates`: what the engine measured of its own requests, None until it has; it divides no time between requests.
    """

    def __init__(
        self, accelerators: float = 1, half_life_s: float = 3600.0, clock: Callable[[], float] = monotonic
    ) -> None:
        self.running_requests: dict[str, Running] = {}
        self.rates: EngineRates | None = None
        self._clock = clock
        self.accelerators, self.sharers = accelerators, 1
        self._half_life_s = half_life_s
        self._now = self._began = clock()
        self._running = self._hosted = 0
        self._virtual = self._host_virtual = 0.0
        self._busy = self._host = self._idle = self._pool = 0.0
        self._recent_busy = self._recent_idle = 0.0

    @property
    def running(self) -> int:
        """Requests in the engine now."""
        return self._running

    @property
    def age_s(self) -> float:
        """Seconds since it was made, by the clock."""
        return self._clock() - self._began

    def begin(self) -> float:
        """A request enters the engine. Returns the ticket that `end` takes."""
        self._advance()
        self._running += 1
        return self._virtual

    def end(self, ticket: float, *, completed: bool) -> Share:
        """The request has left the engine; call exactly once per ticket."""
        self._advance()
        self._running -= 1
        busy = self._virtual - ticket
        ratio = self._recent_idle / self._recent_busy if self._recent_busy > 0 else 0.0
        idle = min(self._pool, busy * ratio) if completed else 0.0
        self._pool -= idle
        return Share(busy, idle)

    def used(self, ticket: float) -> float:
        """Busy seconds so far of a request in the engine."""
        self._advance()
        return self._virtual - ticket

    def begin_host(self) -> float:
        """The machine begins to retrieve for a request. Returns the ticket that `end_host` takes."""
        self._advance()
        self._hosted += 1
        return self._host_virtual

    def end_host(self, ticket: float) -> float:
        """The request's share of the host's time; call exactly once per ticket."""
        self._advance()
        self._hosted -= 1
        return self._host_virtual - ticket

    def used_host(self, ticket: float) -> float:
        """The host's seconds so far of a request."""
        self._advance()
        return self._host_virtual - ticket

    def resize(self, accelerators: float, sharers: int = 1) -> None:
        """From now on every second counts so many times, at each of `sharers` gateways."""
        self._advance()
        self.accelerators, self.sharers = accelerators, sharers

    def bill(self) -> Bill:
        """The state now."""
        self._advance()
        return Bill(self._busy + self._host + self._idle, self._busy, self._idle, self._pool, self._host)

    def _advance(self) -> None:
        now = self._clock()
        elapsed = max(0.0, now - self._now) * self.accelerators
        fade = 0.5 ** (max(0.0, now - self._now) / self._half_life_s)
        self._now = now
        self._recent_busy *= fade
        self._recent_idle *= fade
        if self._running:
            self._busy += elapsed
            self._recent_busy += elapsed
            self._virtual += elapsed / self._running
        elif self._hosted:
            self._host += elapsed
            self._host_virtual += elapsed / self._hosted
        else:
            self._idle += elapsed
            self._recent_idle += elapsed
            self._pool += elapsed
