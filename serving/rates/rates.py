"""Requests per minute of a key, with OpenAI's errors and headers. Keys without a limit cost nothing here.

A key with a limit of N has a bucket of N requests that fills up evenly, one every 60/N seconds: N at once after a
minute of silence, and no more than N a minute in the long run. All that must be known of a bucket is when it will be
full (the generic cell rate algorithm), in whole microseconds, so that N at once are exactly N.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from serving.auth import Caller
from serving.errors import GatewayError

MINUTE = 60_000_000  # microseconds
_PREFIX = "x-ratelimit-"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of `limit` requests after one asked: microseconds until it is full, and whether there was room."""

    limit: int
    missing: int
    admitted: bool

    @property
    def retry_s(self) -> float:
        """Until there is room for one."""
        return max(0, self.missing + gap(self.limit) - whole(self.limit)) / 1e6

    def headers(self) -> dict[str, str]:
        """OpenAI's, of every answer."""
        left = max(0, (whole(self.limit) - self.missing) // gap(self.limit))
        return {
            f"{_PREFIX}limit-requests": str(self.limit),
            f"{_PREFIX}remaining-requests": str(left),
            f"{_PREFIX}reset-requests": _duration(self.missing / 1e6),
        }


class RateLimited(GatewayError):
    """A key sent more requests than it may; OpenAI's error for the same."""

    status = 429
    kind = "requests"
    code = "rate_limit_exceeded"
    bucket: Bucket | None = None

    def headers(self) -> dict[str, str]:
        """With the bucket, and the wait in milliseconds, which OpenAI's clients prefer."""
        if self.bucket is None:
            return super().headers()
        wait = {"retry-after-ms": str(math.ceil(self.bucket.retry_s * 1000))}
        return {**super().headers(), **self.bucket.headers(), **wait}


class Buckets(Protocol):
    """Where the buckets are: `LocalBuckets` for one gateway, `SharedBuckets` (shared.py) for several."""

    async def take(self, account: str, limit: int) -> Bucket:
        """One request of the account's bucket, if it has one; decided before anything else takes from it."""


class LocalBuckets:
    """In memory. Belongs to the event loop. `clock` is any that goes forward, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._full_at: dict[str, int] = {}

    async def take(self, account: str, limit: int) -> Bucket:
        """See Buckets. Decided without an await, so nothing comes between."""
        now = round(self._clock() * 1e6)
        full_at = max(self._full_at.get(account, now), now) + gap(limit)
        if admitted := full_at - now <= whole(limit):
            self._full_at[account] = full_at
        return Bucket(limit, self._full_at.get(account, now) - now, admitted)


class Rates:
    """What a request asks before anything is spent on it."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets = buckets

    async def take(self, caller: Caller) -> Mapping[str, str]:
        """Headers that the answer should carry. Raises RateLimited, StoreUnavailable."""
        if caller.requests_per_minute is None:
            return {}
        bucket = await self._buckets.take(f"key:{caller.key_id}", caller.requests_per_minute)
        if not bucket.admitted:
            raise _refusal(caller.key_id, bucket)
        return bucket.headers()


def gap(limit: int) -> int:
    """Microseconds in which one more request becomes possible."""
    return MINUTE // limit


def whole(limit: int) -> int:
    """Microseconds in which an empty bucket becomes full: a minute, but for what a gap's rounding leaves."""
    return limit * gap(limit)


def _refusal(key_id: str, bucket: Bucket) -> RateLimited:
    error = RateLimited(
        f"Rate limit reached for the key {key_id} on requests per min (RPM): Limit {bucket.limit}. "
        f"Please try again in {_duration(bucket.retry_s)}; an operator can raise it: "
        "breakeven keys update --requests-per-minute",
        retry_after_s=math.ceil(bucket.retry_s),  # who comes a moment too early is refused again
    )
    error.bucket = bucket
    return error


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 8.64s, 1m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, left = divmod(math.ceil(seconds * 100) / 100, 60)
    shown = f"{left:.2f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{shown}s" if minutes else f"{shown}s"
