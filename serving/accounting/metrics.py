"""Prometheus metrics: one sink of the request record. What is read when it is scraped are collectors of others.

Labels are bounded: `model` is always the name of a served model, never what a client typed. Counters that nothing has
touched yet are there with zero for every served model, so that a rate over them works from the first scrape.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import get_args

from prometheus_client import CollectorRegistry, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import Metric

from serving.accounting.cost import Prices
from serving.accounting.health_metrics import ErrorMetrics
from serving.accounting.record import Outcome, RequestRecord, model_label
from serving.accounting.refusal_metrics import RefusalMetrics
from serving.accounting.request_metrics import RequestMetrics
from serving.accounting.routing_metrics import RoutingMetrics
from serving.accounting.version_metrics import VersionMetrics

# A timestamp series beside every counter doubles the scrape and nobody queries it.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left this one untyped

_STAGE_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)


class _Registry(CollectorRegistry):
    """Whoever reads it reads what has ended until now."""

    def __init__(self, flush: Callable[[], None]) -> None:
        super().__init__()
        self._flush = flush

    def collect(self) -> Iterable[Metric]:
        """See CollectorRegistry."""
        self._flush()
        return super().collect()


class MetricsSink:
    """Counts records. `flush` brings those that are on their way, before anything is read."""

    def __init__(self, prices: Prices, models: Sequence[str], flush: Callable[[], None]) -> None:
        self.registry = _Registry(flush)
        self._models = frozenset(models)
        new = self.registry
        self._requests = RequestMetrics(models, get_args(Outcome), prices)
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

    def exposition(self) -> bytes:
        """The scrape's body in Prometheus' text format."""
        return generate_latest(self.registry)

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        model, times = model_label(record.model, self._models), record.times
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
