"""What the door did, for Prometheus; read from it when it is scraped."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.admission.door import Door

_WAIT_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)


class DoorCollector(Collector):
    """Registers itself. Requests that did not wait are not in the histogram of waits."""

    def __init__(self, door: Door, registry: CollectorRegistry) -> None:
        self._door = door
        waits = Histogram(
            "breakeven_queue_wait_seconds",
            "Time in the queue before the engine, of requests that had to wait, let in or not",
            buckets=_WAIT_S,
            registry=registry,
        )
        door.on_wait = waits.observe
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Metric families of the door."""
        door = self._door
        rate = door.pace.rate
        gauges = (
            ("breakeven_engine_places", "Requests that may be in the engine at once", door.places),
            ("breakeven_engine_running", "Requests in the engine now", door.running),
            ("breakeven_queue_length", "Requests waiting for the engine now", door.queued),
            ("breakeven_queue_patience_seconds", "How long a request may wait within its objective", door.patience_s),
            ("breakeven_service_rate", "Requests per second that a full engine completes, measured", rate or 0.0),
        )
        for name, meaning, value in gauges:
            yield GaugeMetricFamily(name, meaning, float(value))
        refused = CounterMetricFamily("breakeven_refused", "Requests refused with 429 by the door", labels=["reason"])
        for reason, times in door.refused.items():
            refused.add_metric([reason], times)
        yield refused
