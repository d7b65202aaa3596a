"""What was spent by stage, tenant and key, for Prometheus: seconds are summed per request and priced when scraped.

Served models are few, tenants and keys are not: the first of them have series of their own, all later ones share
`other`. The ledger knows every one.
"""

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.accounting.cost import GpuPrice
from serving.accounting.record import RequestRecord, model_label
from serving.accounting.stages import STAGES, stages_of

MOST_TENANTS, MOST_KEYS = 50, 100
OTHER = "other"
# Prefill and decode have a series more, of answers whose split nobody could time.
_SPLIT = ("prefill", "decode")
_SERIES = (*((stage, "timed") for stage in STAGES), *((stage, "apportioned") for stage in _SPLIT))
_AT, _END = STAGES.index("prefill"), STAGES.index("decode") + 1


class Spending(Collector):
    """A sink of the request record, and what Prometheus collects from it."""

    def __init__(self, price: GpuPrice, models: Sequence[str]) -> None:
        self._usd_per_s = float(price.usd_per_hour) / 3600
        self._models = frozenset(models)
        self._stages: dict[str, list[float]] = {model: [0.0] * len(_SERIES) for model in models}
        # Busy and host seconds, and those with idle ones.
        self._keys: dict[tuple[str, str], list[float]] = {}
        self._tenants = set[str]()

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        model = model_label(record.model, self._models)
        sums = self._stages.get(model)
        if sums is None:
            sums = self._stages[model] = [0.0] * len(_SERIES)
        for at, seconds in enumerate(stages_of(record)):
            if seconds:  # most stages of most requests are none
                # The two more are in the order of the two that they stand for.
                apart = record.prefill_apportioned and _AT <= at < _END
                sums[at + len(STAGES) - _AT if apart else at] += seconds
        spent = self._keys.get((record.tenant, record.key_id)) or self._first(record.tenant, record.key_id)
        share = record.share
        used = share.busy_s + share.host_s
        spent[0] += used
        spent[1] += used + share.idle_s

    def _first(self, tenant: str, key: str) -> list[float]:
        if tenant not in self._tenants and len(self._tenants) >= MOST_TENANTS:
            tenant = key = OTHER
        elif (tenant, key) not in self._keys and len(self._keys) >= MOST_KEYS:
            key = OTHER
        self._tenants.add(tenant)
        return self._keys.setdefault((tenant, key), [0.0, 0.0])

    def collect(self) -> Iterable[Metric]:
        """Metric families; called by the registry."""
        stages = CounterMetricFamily(
            "breakeven_stage_cost_usd",
            "Self-hosted cost of requests by stage, idle time as one of them; they add up to the allocation cost. "
            "split: whether prefill and decode were timed, or apportioned by the engine's own means",
            labels=["model", "stage", "split"],
        )
        for model, sums in tuple(self._stages.items()):
            for (stage, split), seconds in zip(_SERIES, sums, strict=True):
                stages.add_metric([model, stage, split], max(0.0, seconds) * self._usd_per_s)
        yield stages
        tenants = CounterMetricFamily(
            "breakeven_tenant_cost_usd", "Self-hosted cost of requests by tenant", labels=["tenant", "basis"]
        )
        keys = CounterMetricFamily(
            "breakeven_key_cost_usd", "Self-hosted cost of requests by API key", labels=["tenant", "key", "basis"]
        )
        totals: dict[str, list[float]] = {}
        for (tenant, key), spent in tuple(self._keys.items()):
            total = totals.setdefault(tenant, [0.0, 0.0])
            for at, basis in enumerate(("usage", "allocation")):
                total[at] += spent[at]
                keys.add_metric([tenant, key, basis], spent[at] * self._usd_per_s)
        for tenant, spent in totals.items():
            for at, basis in enumerate(("usage", "allocation")):
                tenants.add_metric([tenant, basis], spent[at] * self._usd_per_s)
        yield tenants
        yield keys
