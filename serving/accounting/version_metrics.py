"""Counters per adapter version: a part of the metrics sink. Versions come and go; the number of series is bounded."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from serving.accounting.record import RequestRecord

_MOST = 50
_OTHER = "other"


class VersionMetrics:
    """Registers its counters in `registry`. The first versions seen get series of their own, all later ones share one:
    a restart starts anew."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._known: set[str] = set()
        self._requests = Counter(
            "breakeven_version_requests",
            "Requests by adapter version and outcome",
            ["model", "adapter", "outcome"],
            registry=registry,
        )
        self._cost = Counter(
            "breakeven_version_cost_usd",
            "Self-hosted cost of requests by adapter version",
            ["model", "adapter", "basis"],
            registry=registry,
        )
        self._seconds = Counter(
            "breakeven_version_request_seconds",
            "Time from request to end, of requests that were answered whole",
            ["model", "adapter"],
            registry=registry,
        )
        self._score = Counter(
            "breakeven_version_score",
            "Sum of scores from 0 to 1 that answers got, by votes and by checks",
            ["model", "adapter", "source"],
            registry=registry,
        )
        self._scored = Counter(
            "breakeven_version_scored",
            "Answers that got a score",
            ["model", "adapter", "source"],
            registry=registry,
        )
        self._evidence = Gauge(
            "breakeven_canary_evidence",
            "E-value of 'the canary is worse'; it is rolled back when it reaches 2 / alpha",
            ["model", "source"],
            registry=registry,
        )
        self._worse = Counter(
            "breakeven_canary_worse",
            "Canaries that the sequential test found worse than prod; each is rolled back",
            ["model", "source"],
            registry=registry,
        )

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        if record.adapter is None:
            return
        adapter = self._label(record.adapter)
        self._requests.labels(record.model, adapter, record.outcome).inc()
        self._cost.labels(record.model, adapter, "allocation").inc(float(record.cost.allocation_usd))
        self._cost.labels(record.model, adapter, "usage").inc(float(record.cost.usage_usd))
        if record.outcome == "complete":
            self._seconds.labels(record.model, adapter).inc(record.times.ended - record.times.received)

    def scored(self, model: str, adapter: str, source: str, score: float) -> None:
        """An answer got a score."""
        self._score.labels(model, self._label(adapter), source).inc(score)
        self._scored.labels(model, self._label(adapter), source).inc()

    def evidence(self, model: str, source: str, e_value: float) -> None:
        """What the sequential test says now."""
        self._evidence.labels(model, source).set(e_value)
        self._worse.labels(model, source)

    def worse(self, model: str, source: str) -> None:
        """The test has decided against a canary."""
        self._worse.labels(model, source).inc()

    def _label(self, adapter: str) -> str:
        if adapter in self._known or len(self._known) < _MOST:
            self._known.add(adapter)
            return adapter
        return _OTHER
