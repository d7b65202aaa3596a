"""Prometheus metrics: one sink of the request record. What is read when it is scraped are collectors of others.

Labels are bounded: `model` is always the name of a served model, never what a client typed. Counters that nothing has
touched yet are there with zero for every served model, so that a rate over them works from the first scrape.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest

from serving.accounting.cost import Prices
from serving.accounting.health_metrics import ErrorMetrics
from serving.accounting.record import Outcome, RequestRecord, model_label
from serving.accounting.refusal_metrics import RefusalMetrics
from serving.accounting.routing_metrics import RoutingMetrics
from serving.accounting.version_metrics import VersionMetrics

# A timestamp series beside every counter doubles the scrape and nobody queries it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left this one untyped

_TTFT_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_GAP_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
_TOTAL_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300)
_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_KINDS = ("prompt", "cached", "retrieved", "completion")


@dataclass(frozen=True, slots=True)
class _Series:
    """Those of one served model, looked up once: that takes longer than counting."""

    requests: Callable[[str, str], Counter]  # by endpoint and outcome
    prompt: Counter
    cached: Counter
    retrieved: Counter
    completion: Counter
    allocation: Counter
    usage: Counter
    hosted: Mapping[str, Counter]
    ttft: Histogram
    gap: Histogram
    total: Histogram


class MetricsSink:
    """Counts records."""

    def __init__(self, prices: Prices, models: Sequence[str]) -> None:
        self.registry = CollectorRegistry()
        self._prices = prices
        self._models = frozenset(models)
        self._series: dict[str, _Series] = {}
        new = self.registry
        self._requests = Counter(
            "breakeven_requests", "Requests by outcome", ["model", "endpoint", "outcome"], registry=new
        )
        self._tokens = Counter(
            "breakeven_tokens", "Tokens; cached and retrieved are parts of prompt", ["model", "kind"], registry=new
        )
        self._cost = Counter("breakeven_cost_usd", "Self-hosted cost of requests", ["model", "basis"], registry=new)
        self._hosted = Counter(
            "breakeven_hosted_equivalent_usd",
            "List price of the same tokens elsewhere",
            ["model", "hosted"],
            registry=new,
        )
        self._ttft = Histogram(
            "breakeven_time_to_first_token_seconds",
            "From request to first token",
            ["model"],
            buckets=_TTFT_S,
            registry=new,
        )
        self._gap = Histogram(
            "breakeven_inter_token_latency_seconds",
            "Mean gap between tokens of one stream",
            ["model"],
            buckets=_GAP_S,
            registry=new,
        )
        self._total = Histogram(
            "breakeven_request_duration_seconds", "From request to end", ["model"], buckets=_TOTAL_S, registry=new
        )
        self._stage = Histogram(
            "breakeven_retrieval_duration_seconds", "Retrieval by stage", ["stage"], buckets=_STAGE_S, registry=new
        )
        info = Gauge("breakeven_price_info", "The price in force", ["id", "source", "as_of", "basis"], registry=new)
        gpu = prices.gpu
        info.labels(gpu.id, gpu.source, gpu.as_of, gpu.basis).set(float(gpu.usd_per_hour))
        self._errors = ErrorMetrics(new, models)
        self._refusal = RefusalMetrics(new, models)
        self.versions = VersionMetrics(new)
        self._routing = RoutingMetrics(new, prices.gpu)
        for model in models:
            self._prepare(model)

    def exposition(self) -> bytes:
        """The scrape's body in Prometheus' text format."""
        return generate_latest(self.registry)

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        if (label := model_label(record.model, self._models)) != record.model:
            record = replace(record, model=label)
        if (series := self._series.get(record.model)) is None:
            series = self._series[record.model] = self._bind(record.model)
        tokens, cost, times = record.tokens, record.cost, record.times
        series.requests(record.endpoint, record.outcome).inc()
        series.prompt.inc(tokens.prompt)
        series.cached.inc(tokens.cached)
        series.retrieved.inc(tokens.retrieved)
        series.completion.inc(tokens.completion)
        series.allocation.inc(float(cost.allocation_usd))
        series.usage.inc(float(cost.usage_usd))
        for hosted, usd in cost.hosted_usd.items():
            series.hosted[hosted].inc(float(usd))
        series.total.observe(times.ended - times.received)
        if times.first_token is not None:
            series.ttft.observe(times.first_token - times.received)
            if record.stream and times.last_token is not None and tokens.completion > 1:
                series.gap.observe((times.last_token - times.first_token) / (tokens.completion - 1))
        for stage, seconds in (("embed", times.embed_s), ("search", times.search_s), ("rerank", times.rerank_s)):
            if seconds is not None:
                self._stage.labels(stage).observe(seconds)
        self._errors.record(record)
        self._refusal.record(record)
        self.versions.record(record)
        self._routing.record(record)

    def _bind(self, model: str) -> "_Series":
        prompt, cached, retrieved, completion = (self._tokens.labels(model, kind) for kind in _KINDS)
        hosted = {price.id: self._hosted.labels(model, price.id) for price in self._prices.hosted}
        return _Series(
            partial(self._outcome, model, {}),
            prompt,
            cached,
            retrieved,
            completion,
            allocation=self._cost.labels(model, "allocation"),
            usage=self._cost.labels(model, "usage"),
            hosted=hosted,
            ttft=self._ttft.labels(model),
            gap=self._gap.labels(model),
            total=self._total.labels(model),
        )

    def _outcome(self, model: str, known: dict[tuple[str, str], Counter], endpoint: str, outcome: str) -> Counter:
        if (found := known.get((endpoint, outcome))) is None:
            found = known[endpoint, outcome] = self._requests.labels(model, endpoint, outcome)
        return found

    def _prepare(self, model: str) -> None:
        self._series[model] = self._bind(model)
        for outcome in get_args(Outcome):
            self._requests.labels(model, "chat", outcome)
