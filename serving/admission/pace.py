"""How long the engine has a request, measured; and by Little's law how many a full engine completes per second.

Throughput of a full engine = its places / mean time in it. That needs no watching of busy periods, is right from the
first completion, and knows nothing before it. While the engine is not full requests are faster, so that the rate is too
high when a queue begins; the queue's own deadlines (door.py) carry that until slower completions have come in.
"""

# Completions that the averages mostly rest on.
_MEMORY = 64
# Mean deviations above the mean that nearly all requests stay below; an exponential's 95th percentile is at 2.7.
_MARGIN = 3.0


class Pace:
    """Fading mean and mean deviation of the seconds that completed requests were in the engine."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._seen = 0
        self._deviation_s = 0.0
        self.mean_s = 0.0

    def observe(self, seconds: float) -> None:
        """A request was completed after `seconds` in the engine."""
        if self._seen < _MEMORY:
            self._seen += 1
        gain = 1 / self._seen
        error = seconds - self.mean_s
        self.mean_s += gain * error
        if self._seen > 1:
            self._deviation_s += gain * (abs(error) - self._deviation_s)

    @property
    def high_s(self) -> float:
        """Seconds that nearly every request takes at most; 0 before anything was measured."""
        return self.mean_s + _MARGIN * self._deviation_s

    @property
    def rate(self) -> float | None:
        """Requests per second that a full engine completes; None before anything was measured."""
        return self._places / self.mean_s if self.mean_s > 0 else None
