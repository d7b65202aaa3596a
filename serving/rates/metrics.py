"""What rate limits refused, for Prometheus; read when it is scraped."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.rates.rates import Rates


class RatesCollector(Collector):
    """Keys have no series of their own: there is no end of them."""

    def __init__(self, rates: Rates) -> None:
        self._rates = rates

    def collect(self) -> Iterable[Metric]:
        """One family."""
        family = CounterMetricFamily(
            "breakeven_rate_refused", "Requests refused because of a key's limit per minute", labels=["limit"]
        )
        for kind, times in self._rates.refused.items():
            family.add_metric([kind], times)
        yield family
