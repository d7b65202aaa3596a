"""Rates as the settings want them."""

from contextlib import AsyncExitStack
from time import monotonic
from typing import TYPE_CHECKING

from serving.rates.rates import LocalBuckets, Rates
from serving.rates.shared import SCHEMA, SharedBuckets

if TYPE_CHECKING:
    from serving.database.postgres import PostgresDatabase


def open_rates(stack: AsyncExitStack, shared: "PostgresDatabase | None") -> Rates:
    """With a shared database the buckets are there, for all gateways. Raises StoreUnavailable."""
    if shared is None:
        return Rates(LocalBuckets(monotonic))
    shared.prepare(SCHEMA)
    buckets = SharedBuckets(shared)
    stack.callback(buckets.close)
    return Rates(buckets)
