"""Prometheus metrics: one sink of the request record, and a collector that reads the meter when it is scraped.

Labels are bounded: `model` is always the name of a served model, never what a client typed. Counters that nothing has
touched yet are there with zero for every served model, so that a rate over them works from the first scrape.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.accounting.cost import GpuPrice, Prices, hosted_usd, request_cost, seconds_usd
from serving.accounting.health_metrics import ErrorMetrics, HealthCollector, LedgerCollector
from serving.accounting.meter import Bill
from serving.accounting.record import Outcome, RequestRecord
from serving.accounting.refusal_metrics import RefusalMetrics
from serving.accounting.routing_metrics import RoutingMetrics
from serving.accounting.version_metrics import VersionMetrics

# A timestamp series beside every counter doubles the scrape and nobody queries it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left this one untyped

_TTFT_S = (0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_GAP_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1)
_TOTAL_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300)
_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_BY_VERSION = "adapter version"
_KINDS = ("prompt", "cached", "retrieved", "completion")


class _EngineCollector(Collector):
    """Billed, busy and idle seconds and the bill, read from the meter at scrape time."""

    def __init__(
        self, bill: Callable[[], Bill], ready: Callable[[], bool], restarts: Callable[[], int], price: GpuPrice
    ):
        self._bill, self._ready, self._restarts, self._price = bill, ready, restarts, price

    def collect(self) -> Iterable[Metric]:
        """Metric families of the accelerator."""
        bill = self._bill()
        seconds = CounterMetricFamily(
            "breakeven_gpu_seconds", "Accelerator seconds by state; billed = busy + host + idle", labels=["state"]
        )
        parts = (("billed", bill.billed_s), ("busy", bill.busy_s), ("host", bill.host_s), ("idle", bill.idle_s))
        for state, value in parts:
            seconds.add_metric([state], value)
        yield seconds
        usd = CounterMetricFamily("breakeven_bill_usd", "Price of all billed accelerator seconds")
        usd.add_metric([], float(seconds_usd(bill.billed_s, self._price)))
        yield usd
        left = "Price of idle seconds that no request has taken a share of yet"
        yield GaugeMetricFamily(
            "breakeven_unallocated_idle_usd", left, float(seconds_usd(bill.unallocated_idle_s, self._price))
        )
        yield GaugeMetricFamily("breakeven_engine_ready", "1 if the engine answers", float(self._ready()))
        restarts = CounterMetricFamily("breakeven_engine_restarts", "Engine restarts after a crash")
        restarts.add_metric([], self._restarts())
        yield restarts


class MetricsSink:
    """Counts records. `home` is the folder whose disk is watched, if any."""

    def __init__(self, prices: Prices, models: Sequence[str], home: Path | None = None) -> None:
        self.registry = CollectorRegistry()
        self._prices = prices
        self._models = frozenset(models)
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
        self._refusal = RefusalMetrics(new, prices.gpu, models)
        self.versions = VersionMetrics(new)
        self._routing = RoutingMetrics(new, prices.gpu)
        if home is not None:
            new.register(HealthCollector(prices, home))
        for model in models:
            self._prepare(model)

    def watch_engine(self, bill: Callable[[], Bill], ready: Callable[[], bool], restarts: Callable[[], int]) -> None:
        """Expose the meter and the engine's state from now on."""
        self.registry.register(_EngineCollector(bill, ready, restarts, self._prices.gpu))

    def watch_ledger(self, up: Callable[[], bool], given_up: Callable[[], int]) -> None:
        """Expose whether the ledger is written from now on."""
        self.registry.register(LedgerCollector(up, given_up))

    def exposition(self) -> bytes:
        """The scrape's body in Prometheus' text format."""
        return generate_latest(self.registry)

    def record(self, record: RequestRecord) -> None:
        """See Sink. Adapter versions that operators ask for by name are one series: there is no end of them."""
        if "@" in record.model and record.model not in self._models:
            record = replace(record, model=_BY_VERSION)
        model, tokens, times = record.model, record.tokens, record.times
        self._requests.labels(model, record.endpoint, record.outcome).inc()
        for kind in _KINDS:
            self._tokens.labels(model, kind).inc(getattr(tokens, kind))
        cost = request_cost(record.share, self._prices.gpu)
        self._cost.labels(model, "allocation").inc(float(cost.allocation_usd))
        self._cost.labels(model, "usage").inc(float(cost.usage_usd))
        # Embedded texts are no chat tokens: what a hosted chat model charges says nothing about them.
        for price in self._prices.hosted if record.endpoint != "embeddings" else ():
            self._hosted.labels(model, price.id).inc(float(hosted_usd(tokens, price)))
        self._errors.record(record)
        self._refusal.record(record)
        self.versions.record(record, cost)
        self._routing.record(record)
        self._total.labels(model).observe(times.ended - times.received)
        if times.first_token is not None:
            self._ttft.labels(model).observe(times.first_token - times.received)
            if record.stream and times.last_token is not None and tokens.completion > 1:
                self._gap.labels(model).observe((times.last_token - times.first_token) / (tokens.completion - 1))
        for stage, seconds in (("embed", times.embed_s), ("search", times.search_s), ("rerank", times.rerank_s)):
            if seconds is not None:
                self._stage.labels(stage).observe(seconds)

    def _prepare(self, model: str) -> None:
        for outcome in get_args(Outcome):
            self._requests.labels(model, "chat", outcome)
        for kind in _KINDS:
            self._tokens.labels(model, kind)
        for basis in ("allocation", "usage"):
            self._cost.labels(model, basis)
        for price in self._prices.hosted:
            self._hosted.labels(model, price.id)
        for histogram in (self._ttft, self._gap, self._total):
            histogram.labels(model)
