"""One replica of the engine as the simulation sees it: continuous batching with the measured demand (formula 1).

Prompts are computed one after another; meanwhile every running answer gets one token. Otherwise each step gives every
running answer a token and takes a fixed time plus a little for each of them. That is how vLLM's scheduler spends its
time, without its limits on memory.
"""

import heapq
from collections import OrderedDict, deque
from dataclasses import dataclass

from benchmarks.economics.demand_fit import DemandFit


@dataclass(frozen=True, slots=True)
class Demand:
    """Seconds of a replica: per query, per computed prompt token, per step of the batch, per answer in a step.

    `slots`: answers at a time; what comes beyond waits in the engine.
    """

    base_s: float
    prefill_s_per_token: float
    step_s: float
    decode_s_per_token: float
    slots: int

    @classmethod
    def of(cls, fit: DemandFit, slots: int) -> "Demand":
        """From a fit over shapes and concurrencies."""
        shared = fit.step_gpu_s_per_token.value if fit.step_gpu_s_per_token else 0.0
        return cls(
            fit.base_gpu_s.value, fit.prefill_gpu_s_per_token.value, shared, fit.decode_gpu_s_per_token.value, slots
        )

    def full_queries_per_s(self, prompt_tokens: float, output_tokens: float) -> float:
        """What a replica completes with every slot taken."""
        prefill = self.base_s + self.prefill_s_per_token * prompt_tokens
        steps = max(0.0, output_tokens - 1 - self.slots) * (self.step_s / self.slots + self.decode_s_per_token)
        return 1 / (prefill + steps)


class Request:
    """One query on its way. Times in seconds since the simulation began; `topic` stands for a prompt's shared beginning
    or its adapter."""

    __slots__ = ("arrived_s", "first_token_s", "output_tokens", "prompt_tokens", "topic")

    def __init__(self, arrived_s: float, prompt_tokens: int, output_tokens: int, topic: int) -> None:
        self.arrived_s, self.prompt_tokens = arrived_s, prompt_tokens
        self.output_tokens, self.topic = output_tokens, topic
        self.first_token_s = 0.0


@dataclass(frozen=True, slots=True)
class PrefixCache:
    """What a replica need not compute again: `shared_tokens` of a prompt whose topic is among its last `topics`."""

    shared_tokens: int = 0
    topics: int = 0


NO_CACHE = PrefixCache()


class Replica:
    """State of one replica. `next_s` is when something ends; whoever drives it calls `advance` then."""

    def __init__(self, number: int, demand: Demand, cache: PrefixCache, started_s: float) -> None:
        self.number, self.started_s = number, started_s
        self.gone_s: float | None = None
        self.alive = self.routed = True
        # Requests that it has not answered, those of which it knows nothing included.
        self.outstanding = 0
        self.version = 0
        self.hits = self.asked = 0
        self._demand, self._cache = demand, cache
        self._waiting: deque[Request] = deque()
        self._prefill: Request | None = None
        self._prefill_end_s = 0.0
        # Answers by the count of steps at which they are complete; `_steps` so far, at `_at_s`.
        self._answers: list[tuple[float, int, Request]] = []
        self._steps = self._at_s = 0.0
        self._entered = 0
        self._topics: OrderedDict[int, None] = OrderedDict()

    @property
    def running(self) -> int:
        """Requests in the batch."""
        return len(self._answers) + (self._prefill is not None)

    @property
    def waiting(self) -> int:
        """Requests that it has not begun: vLLM's num_requests_waiting."""
        return len(self._waiting)

    def take(self, request: Request, now: float) -> None:
        """One more request."""
        self._pass(now)
        self.outstanding += 1
        self._waiting.append(request)
        self._begin(now)

    def next_s(self) -> float | None:
        """When the next prompt is computed or the next answer complete."""
        if self._prefill is not None:
            return self._prefill_end_s
        if self._answers:
            return self._at_s + max(0.0, self._answers[0][0] - self._steps) * self._step_s()
        return None

    def advance(self, now: float) -> list[Request]:
        """What ended by now: the answers that are complete."""
        self._pass(now)
        done = []
        if self._prefill is not None and now >= self._prefill_end_s:
            request, self._prefill = self._prefill, None
            request.first_token_s = now
            self._steps += 1.0  # the step that computed the prompt gave every other answer a token, too
            self._entered += 1
            heapq.heappush(self._answers, (self._steps + request.output_tokens - 1, self._entered, request))
        while self._answers and self._answers[0][0] <= self._steps + 1e-9:
            done.append(heapq.heappop(self._answers)[2])
        self.outstanding -= len(done)
        self._begin(now)
        return done

    def drop(self) -> list[Request]:
        """It is lost with everything in it."""
        held = [*self._waiting, *(answer[2] for answer in self._answers)]
        if self._prefill is not None:
            held.append(self._prefill)
        self._waiting.clear()
        self._answers.clear()
        self._prefill, self.alive, self.outstanding = None, False, 0
        return held

    def _pass(self, now: float) -> None:
        if self._prefill is None and self._answers:
            self._steps += (now - self._at_s) / self._step_s()
        self._at_s = now

    def _step_s(self) -> float:
        return self._demand.step_s + self._demand.decode_s_per_token * len(self._answers)

    def _begin(self, now: float) -> None:
        if self._prefill is not None or not self._waiting or len(self._answers) >= self._demand.slots:
            return
        request = self._prefill = self._waiting.popleft()
        tokens = request.prompt_tokens - self._found(request.topic)
        self._prefill_end_s = now + self._demand.base_s + self._demand.prefill_s_per_token * tokens

    def _found(self, topic: int) -> int:
        """Prompt tokens that need not be computed."""
        if not self._cache.topics:
            return 0
        self.asked += 1
        known = topic in self._topics
        self._topics[topic] = None
        self._topics.move_to_end(topic)
        if len(self._topics) > self._cache.topics:
            self._topics.popitem(last=False)
        self.hits += known
        return self._cache.shared_tokens if known else 0
