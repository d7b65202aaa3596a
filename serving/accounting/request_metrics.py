"""What requests did, for Prometheus: summed up in plain numbers, made into metric families when they are scraped.

The library's own counters take a lock and look at their labels every time; for all that one request counts, that took
a tenth of what the gateway spends on the request.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from serving.accounting.record import RequestRecord

_TTFT_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_GAP_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
_TOTAL_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300)
_KINDS = ("prompt", "cached", "retrieved", "completion")
_BASES = ("allocation", "usage")


class _Histogram:
    """`bounds` are upper ones, inclusive; what is above the last is counted too."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds, self.counts, self.sum = bounds, [0] * (len(bounds) + 1), 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def buckets(self) -> list[tuple[str, float]]:
        names = map(floatToGoString, (*self.bounds, float("inf")))
        return list(zip(names, accumulate(self.counts), strict=True))


@dataclass(slots=True)
class _Sums:
    """Of one served model. `tokens` and `usd` in the order of _KINDS and _BASES, `hosted` in that of the prices."""

    hosted: list[float]
    requests: dict[tuple[str, str], int] = field(default_factory=dict)  # by endpoint and outcome
    tokens: list[int] = field(default_factory=lambda: [0] * len(_KINDS))
    usd: list[float] = field(default_factory=lambda: [0.0] * len(_BASES))
    ttft: _Histogram = field(default_factory=lambda: _Histogram(_TTFT_S))
    gap: _Histogram = field(default_factory=lambda: _Histogram(_GAP_S))
    total: _Histogram = field(default_factory=lambda: _Histogram(_TOTAL_S))

    def add(self, record: RequestRecord) -> None:
        key, tokens, cost, times = (record.endpoint, record.outcome), record.tokens, record.cost, record.times
        self.requests[key] = self.requests.get(key, 0) + 1
        counts = self.tokens
        counts[0] += tokens.prompt
        counts[1] += tokens.cached
        counts[2] += tokens.retrieved
        counts[3] += tokens.completion
        self.usd[0] += float(cost.allocation_usd)
        self.usd[1] += float(cost.usage_usd)
        for at, usd in enumerate(cost.hosted_usd.values()):
            self.hosted[at] += float(usd)
        self.total.observe(times.ended - times.received)
        if times.first_token is None:
            return
        self.ttft.observe(times.first_token - times.received)
        if record.stream and times.last_token is not None and tokens.completion > 1:
            self.gap.observe((times.last_token - times.first_token) / (tokens.completion - 1))


class RequestMetrics(Collector):
    """`models` are there with zeros from the start, for chat and each of `outcomes`; `hosted` are the ids of the hosted
    models, in the order of every record's `hosted_usd`."""

    def __init__(self, models: Sequence[str], outcomes: Sequence[str], hosted: Sequence[str]) -> None:
        self._hosted = hosted
        self._models = {model: self._none() for model in models}
        for sums in self._models.values():
            sums.requests.update({("chat", outcome): 0 for outcome in outcomes})

    def add(self, model: str, record: RequestRecord) -> None:
        """Count a record as one of `model`'s."""
        sums = self._models.get(model)
        if sums is None:
            sums = self._models[model] = self._none()
        sums.add(record)

    def _none(self) -> _Sums:
        return _Sums([0.0] * len(self._hosted))

    def collect(self) -> Iterable[Metric]:
        """Metric families; called by the registry."""
        requests = CounterMetricFamily(
            "breakeven_requests", "Requests by outcome", labels=["model", "endpoint", "outcome"]
        )
        tokens = CounterMetricFamily(
            "breakeven_tokens", "Tokens; cached and retrieved are parts of prompt", labels=["model", "kind"]
        )
        cost = CounterMetricFamily("breakeven_cost_usd", "Self-hosted cost of requests", labels=["model", "basis"])
        hosted = CounterMetricFamily(
            "breakeven_hosted_equivalent_usd", "List price of the same tokens elsewhere", labels=["model", "hosted"]
        )
        ttft = HistogramMetricFamily(
            "breakeven_time_to_first_token_seconds", "From request to first token", labels=["model"]
        )
        gap = HistogramMetricFamily(
            "breakeven_inter_token_latency_seconds", "Mean gap between tokens of one stream", labels=["model"]
        )
        total = HistogramMetricFamily("breakeven_request_duration_seconds", "From request to end", labels=["model"])
        for model, sums in self._models.items():
            for (endpoint, outcome), count in sums.requests.items():
                requests.add_metric([model, endpoint, outcome], count)
            for family, names, values in (
                (tokens, _KINDS, sums.tokens),
                (cost, _BASES, sums.usd),
                (hosted, self._hosted, sums.hosted),
            ):
                for name, value in zip(names, values, strict=True):
                    family.add_metric([model, name], value)
            for histogram, seen in ((ttft, sums.ttft), (gap, sums.gap), (total, sums.total)):
                histogram.add_metric([model], seen.buckets(), seen.sum)
        return (requests, tokens, cost, hosted, ttft, gap, total)
