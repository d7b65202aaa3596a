"""Buckets in PostgreSQL, for several gateways: one statement decides, under the lock of the bucket's row, by the
database's clock. They are not written to disk for good: after a crash of the database every bucket is full again."""

import asyncio
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from serving.database.protocol import Database, Schema
from serving.errors import StoreUnavailable
from serving.rates.buckets import Bucket, gap, whole

logger = logging.getLogger("breakeven.rates")

# `returned` is a sum for ever, and outgrows 64 bits.
SCHEMA = Schema(
    "",
    shared="CREATE UNLOGGED TABLE IF NOT EXISTS buckets (account TEXT PRIMARY KEY, full_at BIGINT NOT NULL, "
    "returned NUMERIC NOT NULL DEFAULT 0) WITH (fillfactor = 50)",
)
# Of the moment, not of the transaction: whoever waited for the row is judged by when he got it.
_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000000)::bigint"
_FULL = f"greatest(buckets.full_at, {_NOW}) + ?"
_TAKE = (
    f"INSERT INTO buckets (account, full_at) VALUES (?, {_NOW} + ?) ON CONFLICT (account) "  # noqa: S608  # names of ours
    f"DO UPDATE SET full_at = {_FULL} WHERE {_FULL} <= {_NOW} + ? "
    f"RETURNING full_at - {_NOW} AS missing, full_at + returned AS mark"
)
_LOOK = f"SELECT full_at - {_NOW} AS missing FROM buckets WHERE account = ?"  # noqa: S608  # names of ours
_TAKE_MORE = f"UPDATE buckets SET full_at = {_FULL} WHERE account = ?"  # noqa: S608  # names of ours
# The inner query says once what is given back, of the row as it is under its lock.
_GIVE_BACK = (
    "UPDATE buckets SET (full_at, returned) = "  # noqa: S608  # names of ours
    "(SELECT buckets.full_at - back, buckets.returned + back FROM "
    f"(SELECT greatest(0, least(?, ? - buckets.returned - {_NOW}))::bigint AS back) AS found) WHERE account = ?"
)
_THREADS = 4


class SharedBuckets:
    """`close` it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="rates")

    async def take(self, account: str, limit: int, amount: int = 1) -> Bucket:
        """See Buckets. Raises StoreUnavailable."""
        asked = self._threads.submit(self._take, account, limit, amount)
        try:
            return await asyncio.wrap_future(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._put_back)  # its client left, and nobody else will settle it
            raise

    def settle(self, bucket: Bucket, used: int) -> None:
        """See Buckets. What cannot be given back fills up again by itself, within a minute."""
        with suppress(RuntimeError):  # closed
            self._threads.submit(self._settle, bucket, used)

    def close(self) -> None:
        """Nobody asks any more."""
        self._threads.shutdown(cancel_futures=True)

    def _take(self, account: str, limit: int, amount: int) -> Bucket:
        wanted = amount * gap(limit)
        try:
            taken = self._database.rows(_TAKE, (account, wanted, wanted, wanted, whole(limit)))
            found = taken or self._database.rows(_LOOK, (account,))
        except StoreUnavailable as error:
            raise StoreUnavailable(
                f"rate limits cannot be looked up: {error.message}", code="rates_unavailable", retry_after_s=1
            ) from error
        # A row that was removed between the two statements: the next request finds a full bucket.
        missing = max(0, int(found[0]["missing"])) if found else whole(limit)
        return Bucket(account, limit, amount, missing, bool(taken), int(taken[0]["mark"]) if taken else 0)

    def _put_back(self, asked: "Future[Bucket]") -> None:
        if not asked.cancelled() and asked.exception() is None and asked.result().admitted:
            self._settle(asked.result(), 0)

    def _settle(self, bucket: Bucket, used: int) -> None:
        owed = bucket.owed(used)
        try:
            if owed > 0:
                self._database.write([(_TAKE_MORE, (owed, bucket.account))])
            elif owed:
                self._database.write([(_GIVE_BACK, (-owed, bucket.mark, bucket.account))])
        except StoreUnavailable as error:
            logger.warning("tokens of %s were not settled: %s", bucket.account, error)
