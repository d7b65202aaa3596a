"""Counters of routed requests: a part of the metrics sink. Their labels are names from the configuration."""

from prometheus_client import CollectorRegistry, Counter

from serving.accounting.cost import GpuPrice, request_cost
from serving.accounting.record import RequestRecord


class RoutingMetrics:
    """Registers its counters in `registry`."""

    def __init__(self, registry: CollectorRegistry, price: GpuPrice) -> None:
        self._price = price
        self._routed = Counter(
            "breakeven_routed",
            "Requests by router, the served model it chose, and why: a confident label, unsure or failed",
            ["router", "model", "reason"],
            registry=registry,
        )
        self._cost = Counter(
            "breakeven_routing_cost_usd",
            "Self-hosted cost of routers' classifications; a part of breakeven_cost_usd",
            ["router", "basis"],
            registry=registry,
        )

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        if (routed := record.routing) is None:
            return
        self._routed.labels(routed.router, routed.model, routed.reason).inc()
        cost = request_cost(routed.share, self._price)
        self._cost.labels(routed.router, "allocation").inc(float(cost.allocation_usd))
        self._cost.labels(routed.router, "usage").inc(float(cost.usage_usd))
