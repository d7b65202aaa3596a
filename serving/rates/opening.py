"""Rates as the settings want them."""

from contextlib import AsyncExitStack
from time import monotonic
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry

from serving.rates.buckets import Buckets, LocalBuckets
from serving.rates.metrics import RatesCollector
from serving.rates.rates import Rates
from serving.rates.shared import SCHEMA, SharedBuckets

if TYPE_CHECKING:
    from serving.database.postgres import PostgresDatabase


def open_rates(stack: AsyncExitStack, shared: "PostgresDatabase | None", registry: CollectorRegistry) -> Rates:
    """With a shared database the buckets are there, for all gateways. Their metrics are in `registry`. Raises
    StoreUnavailable."""
    buckets: Buckets = LocalBuckets(monotonic)
    if shared is not None:
        shared.prepare(SCHEMA)
        buckets = theirs = SharedBuckets(shared)
        stack.callback(theirs.close)
    rates = Rates(buckets)
    registry.register(RatesCollector(rates))
    return rates
