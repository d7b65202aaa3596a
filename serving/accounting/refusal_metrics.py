"""Counters of answers that were refused or that cite: a part of the metrics sink."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter

from serving.accounting.record import RequestRecord
from serving.accounting.savings import AbstentionSavings


class RefusalMetrics:
    """Registers its counters in `registry`, with zero for every served model."""

    def __init__(self, registry: CollectorRegistry, models: Sequence[str]) -> None:
        self._savings = AbstentionSavings()
        self._citations = Counter(
            "breakeven_citations",
            "Numbers in answers' texts: of passages supplied, and of none",
            ["model", "matched"],
            registry=registry,
        )
        self._saved_tokens = Counter(
            "breakeven_abstention_saved_tokens",
            "Modelled: tokens that abstentions spared the engine, taken from recent answers of the same served model",
            ["model"],
            registry=registry,
        )
        self._saved_usd = Counter(
            "breakeven_abstention_saved_usd",
            "Modelled: those tokens at the recent measured usage cost per token",
            ["model"],
            registry=registry,
        )
        for model in models:
            for matched in ("yes", "no"):
                self._citations.labels(model, matched)
            for counter in (self._saved_tokens, self._saved_usd):
                counter.labels(model)

    def record(self, record: RequestRecord) -> None:
        """See Sink. Without documents there is nothing to cite and nothing to refuse."""
        if record.knowledge is None:
            return
        self._citations.labels(record.model, "yes").inc(record.cited)
        self._citations.labels(record.model, "no").inc(record.unmatched_citations)
        saved = self._savings.observe(record)
        self._saved_tokens.labels(record.model).inc(saved.tokens)
        self._saved_usd.labels(record.model).inc(saved.usd)
