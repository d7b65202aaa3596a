"""Buckets in PostgreSQL, for several gateways: one statement decides, under the lock of the bucket's row, by the
database's clock. They are not written to disk for good: after a crash of the database every bucket is full again."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from serving.database.protocol import Database, Schema
from serving.errors import StoreUnavailable
from serving.rates.rates import Bucket, gap, whole

SCHEMA = Schema(
    "",
    shared="CREATE UNLOGGED TABLE IF NOT EXISTS rates (account TEXT PRIMARY KEY, full_at BIGINT NOT NULL) "
    "WITH (fillfactor = 50)",
)
# Of the moment, not of the transaction: whoever waited for the row is judged by when he got it.
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
_FULL = f"greatest(rates.full_at, {_NOW}) + ?"
_TAKE = (
    f"INSERT INTO rates (account, full_at) VALUES (?, {_NOW} + ?) ON CONFLICT (account) "  # noqa: S608  # names of ours
    f"DO UPDATE SET full_at = {_FULL} WHERE {_FULL} <= {_NOW} + ? RETURNING full_at - {_NOW} AS missing"
)
_LOOK = f"SELECT full_at - {_NOW} AS missing FROM rates WHERE account = ?"  # noqa: S608  # names of ours
_THREADS = 4


class SharedBuckets:
    """`close` it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rates")

    async def take(self, account: str, limit: int) -> Bucket:
        """See Buckets. Raises StoreUnavailable."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._take, account, limit)

    def close(self) -> None:
        """Nobody asks any more."""
        self._threads.shutdown(cancel_futures=True)

    def _take(self, account: str, limit: int) -> Bucket:
        each = gap(limit)
        try:
            taken = self._database.rows(_TAKE, (account, each, each, each, whole(limit)))
            found = taken or self._database.rows(_LOOK, (account,))
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"rate limits cannot be looked up: {error.message}", code="rates_unavailable", retry_after_s=1
            ) from error
        # A row that was removed between the two statements: the next request finds a full bucket.
        missing = found[0]["missing"] if found else whole(limit)
        return Bucket(limit, max(0, int(missing)), admitted=bool(taken))
