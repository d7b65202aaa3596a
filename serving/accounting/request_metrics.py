"""What requests did, for Prometheus: summed up in plain numbers, made into metric families when they are scraped.

The library's own counters take a lock and look at their labels every time; for all that one request counts, that took
a tenth of what the gateway spends on the request. Money is seconds and tokens until then, too: prices do not change
while a gateway runs.
"""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from serving.accounting.cost import ApiPrice, Prices, hosted_usd
from serving.accounting.record import RequestRecord, Tokens

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
    """Of one served model. `tokens` in the order of _KINDS, and those of embeddings, which no chat model is priced for.
    Seconds of the machine: `used_s` without idle ones."""

    requests: dict[tuple[str, str], int] = field(default_factory=dict)  # by endpoint and outcome
    tokens: list[int] = field(default_factory=lambda: [0] * len(_KINDS))
    embedded: list[int] = field(default_factory=lambda: [0] * len(_KINDS))
    used_s: float = 0.0
    idle_s: float = 0.0
    ttft: _Histogram = field(default_factory=lambda: _Histogram(_TTFT_S))
    gap: _Histogram = field(default_factory=lambda: _Histogram(_GAP_S))
    total: _Histogram = field(default_factory=lambda: _Histogram(_TOTAL_S))

    def add(self, record: RequestRecord) -> None:
        key, tokens, share, times = (record.endpoint, record.outcome), record.tokens, record.share, record.times
        self.requests[key] = self.requests.get(key, 0) + 1
        counts = self.embedded if record.endpoint == "embeddings" else self.tokens
        counts[0] += tokens.prompt
        counts[1] += tokens.cached
        counts[2] += tokens.retrieved
        counts[3] += tokens.completion
        self.used_s += share.busy_s + share.host_s
        self.idle_s += share.idle_s
        self.total.observe(times.ended - times.received)
        if times.first_token is None:
            return
        self.ttft.observe(times.first_token - times.received)
        if record.stream and times.last_token is not None and tokens.completion > 1:
            self.gap.observe((times.last_token - times.first_token) / (tokens.completion - 1))

    def usd(self, usd_per_s: float) -> tuple[float, float]:
        """In the order of _BASES."""
        return (self.used_s + self.idle_s) * usd_per_s, self.used_s * usd_per_s

    def hosted_usd(self, price: ApiPrice) -> float:
        prompt, cached, _, completion = self.tokens
        return float(hosted_usd(Tokens(prompt, cached, completion=completion), price))


class RequestMetrics(Collector):
    """`models` are there with zeros from the start, for chat and each of `outcomes`."""

    def __init__(self, models: Sequence[str], outcomes: Sequence[str], prices: Prices) -> None:
        self._hosted, self._usd_per_s = prices.hosted, float(prices.gpu.usd_per_hour) / 3600
        self._models = {model: _Sums() for model in models}
        for sums in self._models.values():
            sums.requests.update({("chat", outcome): 0 for outcome in outcomes})

    def add(self, model: str, record: RequestRecord) -> None:
        """Count a record as one of `model`'s."""
        sums = self._models.get(model)
        if sums is None:
            sums = self._models[model] = _Sums()
        sums.add(record)

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
            for kind, chat, embedded in zip(_KINDS, sums.tokens, sums.embedded, strict=True):
                tokens.add_metric([model, kind], chat + embedded)
            for basis, usd in zip(_BASES, sums.usd(self._usd_per_s), strict=True):
                cost.add_metric([model, basis], usd)
            for price in self._hosted:
                hosted.add_metric([model, price.id], sums.hosted_usd(price))
            for histogram, seen in ((ttft, sums.ttft), (gap, sums.gap), (total, sums.total)):
                histogram.add_metric([model], seen.buckets(), seen.sum)
        return (requests, tokens, cost, hosted, ttft, gap, total)
