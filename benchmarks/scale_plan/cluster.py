"""A fleet of replicas behind a router, played through event by event: arrivals, prompts, answers, starts and losses.

The door is the gateways': a request that would have to wait longer than the objective allows is refused at once.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from benchmarks.scale_plan.autoscaling import SYNC_S, Autoscaler, Rules
from benchmarks.scale_plan.replica import NO_CACHE, Demand, PrefixCache, Replica, Request
from benchmarks.scale_plan.routing import Route

# Envoy's: seconds until a connection to a dead node is given up, and until no more are tried.
CONNECT_S, UNHEALTHY_S = 2.0, 6.0
# Of the permitted wait, what the gateway's door promises (serving.admission.door).
_PROMISED = 0.8


@dataclass(frozen=True, slots=True)
class Plan:
    """What is played. Seconds; `lost_s`: a replica is lost then; `scaling`: KEDA's rules, None for a fixed fleet.

    `full_queries_per_s` is what a replica completes at most; `objective_s` the door's, to the whole answer.
    """

    demand: Demand
    replicas: int
    cold_start_s: float
    ends_s: float
    full_queries_per_s: float
    objective_s: float
    cache: PrefixCache = NO_CACHE
    scaling: Rules | None = None
    lost_s: float | None = None


@dataclass(slots=True)
class Played:
    """What came of it. `answers`: (arrived, to the first token, to the end) in seconds; `fleet`: (time, replicas that
    are billed) at each change."""

    sent: int = 0
    refused: list[float] = field(default_factory=list)
    broken: list[float] = field(default_factory=list)
    answers: list[tuple[float, float, float]] = field(default_factory=list)
    fleet: list[tuple[float, int]] = field(default_factory=list)
    billed_s: float = 0.0
    started: int = 0
    stopped: int = 0
    hits: int = 0
    asked: int = 0


class Cluster:
    """One run of a plan."""

    def __init__(self, plan: Plan, route: Route) -> None:
        self._plan, self._route = plan, route
        self._played = Played()
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._numbers = count()
        self._replicas: list[Replica] = []
        self._wanted = plan.replicas
        self._routed: list[Replica] = []
        # What an answer takes by itself in a full batch: the rest of the objective may be waited for.
        alone = plan.demand.slots / plan.full_queries_per_s
        self._patience_s = _PROMISED * max(0.0, plan.objective_s - alone)
        self._outstanding = 0
        self._autoscaler = Autoscaler(plan.scaling) if plan.scaling else None
        self._seen = (0, 0.0, 0)

    def play(self, requests: Iterable[Request]) -> Played:
        """All of it; requests come in order of time."""
        for _ in range(self._plan.replicas):
            self._ready(self._start(0.0), 0.0)
        self._played.started = 0
        if self._autoscaler is not None:
            self._at(SYNC_S, self._scale)
        if self._plan.lost_s is not None:
            self._at(self._plan.lost_s, self._lose)
        for request in requests:
            self._until(request.arrived_s)
            self._played.sent += 1
            self._arrive(request, request.arrived_s)
        self._until(self._plan.ends_s)
        self._close()
        return self._played

    def _until(self, moment: float) -> None:
        while self._events and self._events[0][0] <= moment:
            now, _, event = heapq.heappop(self._events)
            event(now)

    def _at(self, moment: float, event: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (moment, next(self._order), event))

    def _arrive(self, request: Request, now: float) -> None:
        if not self._routed or self._too_long():
            self._played.refused.append(request.arrived_s)
            return
        self._outstanding += 1
        self._send(request, now)

    def _too_long(self) -> bool:
        """Whether one more would have to wait too long, at the rate at which full replicas complete."""
        waiting = self._outstanding - len(self._routed) * self._plan.demand.slots
        return waiting > self._patience_s * len(self._routed) * self._plan.full_queries_per_s

    def _send(self, request: Request, now: float) -> None:
        replica = self._route(self._routed, request)
        if replica.alive:
            replica.take(request, now)
            self._wake(replica)
        else:
            replica.outstanding += 1
            self._at(now + CONNECT_S, lambda later: self._retry(replica, request, later))

    def _retry(self, dead: Replica, request: Request, now: float) -> None:
        """At another replica than the one that did not answer."""
        dead.outstanding -= 1
        others = [replica for replica in self._routed if replica.alive]
        if not others:
            self._outstanding -= 1
            self._played.broken.append(request.arrived_s)
            return
        replica = self._route(others, request)
        replica.take(request, now)
        self._wake(replica)

    def _wake(self, replica: Replica) -> None:
        """Once for each replica: an older event finds a newer version and does nothing."""
        replica.version += 1
        moment, version = replica.next_s(), replica.version
        if moment is not None:
            self._at(moment, lambda now: self._ended(replica, version, now))

    def _ended(self, replica: Replica, version: int, now: float) -> None:
        if version != replica.version:
            return
        for request in replica.advance(now):
            arrived = request.arrived_s
            self._outstanding -= 1
            self._played.answers.append((arrived, request.first_token_s - arrived, now - arrived))
        if replica.routed or replica.outstanding:
            self._wake(replica)
        else:
            self._gone(replica, now)

    def _start(self, now: float) -> Replica:
        replica = Replica(next(self._numbers), self._plan.demand, self._plan.cache, now)
        self._replicas.append(replica)
        self._played.started += 1
        self._note(now)
        return replica

    def _ready(self, replica: Replica, now: float) -> None:
        del now
        if replica.gone_s is None:
            self._routed.append(replica)

    def _scale(self, now: float) -> None:
        """Decides on what was scraped SYNC_S ago."""
        if self._autoscaler is None:
            return
        wanted = self._autoscaler.replicas(now, self._wanted, *self._seen)
        running = sum(replica.running for replica in self._routed)
        waiting = sum(replica.waiting for replica in self._routed)
        self._seen = (waiting, running / self._plan.demand.slots, running)
        if wanted > self._wanted:
            self._begin(now)
        elif wanted < self._wanted:
            self._retire(next(replica for replica in reversed(self._routed) if replica.alive), now)
        self._wanted = wanted
        self._at(now + SYNC_S, self._scale)

    def _begin(self, now: float) -> None:
        replica = self._start(now)
        self._at(now + self._plan.cold_start_s, lambda later: self._ready(replica, later))

    def _retire(self, replica: Replica, now: float) -> None:
        """No new requests; it is gone when those that it has are answered."""
        self._routed.remove(replica)
        replica.routed = False
        self._played.stopped += 1
        if not replica.outstanding:
            self._gone(replica, now)

    def _lose(self, now: float) -> None:
        """A replica with its node: what ran there is broken off, and another pod is started at once."""
        replica = self._routed[0]
        for request in replica.drop():
            self._outstanding -= 1
            self._played.broken.append(request.arrived_s)
        self._gone(replica, now)
        self._at(now + UNHEALTHY_S, lambda _: self._routed.remove(replica))
        self._begin(now)

    def _gone(self, replica: Replica, now: float) -> None:
        replica.version += 1
        replica.gone_s = now
        self._note(now)

    def _note(self, now: float) -> None:
        billed = sum(replica.gone_s is None for replica in self._replicas)
        if self._played.fleet and self._played.fleet[-1][0] == now:
            self._played.fleet.pop()
        self._played.fleet.append((now, billed))

    def _close(self) -> None:
        played = self._played
        for replica in self._replicas:
            end = self._plan.ends_s if replica.gone_s is None else min(replica.gone_s, self._plan.ends_s)
            played.billed_s += max(0.0, end - replica.started_s)
            played.hits += replica.hits
            played.asked += replica.asked
