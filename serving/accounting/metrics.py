"""Prometheus metrics: one sink of the request record, and a collector that reads the meter when it is scraped.

Labels are bounded: `model` is always the name of a served model, never what a client typed. Counters that nothing has
touched yet are there with zero for every served model, so that a rate over them works from the first scrape.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.accounting.cost import GpuPrice, Prices, seconds_usd
from serving.accounting.health_metrics import ErrorMetrics, HealthCollector, LedgerCollector
from serving.accounting.meter import Bill
from serving.accounting.record import Outcome, RequestRecord, counted_as
from serving.accounting.refusal_metrics import RefusalMetrics
from serving.accounting.request_metrics import RequestMetrics
from serving.accounting.routing_metrics import RoutingMetrics
from serving.accounting.version_metrics import VersionMetrics

# A timestamp series beside every counter doubles the scrape and nobody queries it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left this one untyped

_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


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
        self._requests = RequestMetrics(models, get_args(Outcome), [price.id for price in prices.hosted])
        new.register(self._requests)
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
        if home is not None:
            new.register(HealthCollector(prices, home))

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
        """See Sink."""
        model, times = counted_as(record.model, self._models), record.times
        if model != record.model:
            record = replace(record, model=model)
        self._requests.add(model, record)
        for stage, seconds in (("embed", times.embed_s), ("search", times.search_s), ("rerank", times.rerank_s)):
            if seconds is not None:
                self._stage.labels(stage).observe(seconds)
        self._errors.record(record)
        self._refusal.record(record)
        self.versions.record(record)
        self._routing.record(record)
