"""Buckets that fill up evenly: what may be taken in a minute, and what of it is given back.

A bucket of N fills by one every 60/N seconds: N at once after a minute of silence, and no more than N a minute in the
long run. All that must be known of it is when it will be full (the generic cell rate algorithm), in whole nanoseconds,
so that N at once are exactly N.

What was taken before it was known may turn out to be too much. The rest is given back, but for what has filled up
again by itself: it would be given twice. What a taking holds of a bucket is, at the least, what lies between now and
when the bucket was to be full after it, less all that was given back to the bucket since. So with every taking entered
at its time with what was kept of it, none ever found a bucket that had too little.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MINUTE = 60 * 10**9  # nanoseconds
# The longest that one taking may close a bucket for by having turned out larger than it.
MOST_DEBT = 60 * MINUTE


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket of `limit` after `amount` was asked of it: nanoseconds until it is full, and whether there was room.

    `mark` is when it would be full if nothing had ever been given back to it.
    """

    account: str
    limit: int
    amount: int
    missing: int
    admitted: bool
    mark: int = 0

    @property
    def retry_s(self) -> float:
        """Until there is room for as much."""
        return max(0, self.missing + self.amount * gap(self.limit) - whole(self.limit)) / 1e9

    @property
    def left(self) -> int:
        """What can be taken now."""
        return max(0, (whole(self.limit) - self.missing) // gap(self.limit))

    @property
    def full_s(self) -> float:
        """Until it is full."""
        return self.missing / 1e9

    def owed(self, used: int) -> int:
        """Nanoseconds to take from the bucket if so much was used, or (negative) to give back."""
        return min((used - self.amount) * gap(self.limit), MOST_DEBT)


class Buckets(Protocol):
    """Where the buckets are: `LocalBuckets` for one gateway, `SharedBuckets` (shared.py) for several."""

    async def take(self, account: str, limit: int, amount: int = 1) -> Bucket:
        """Take from the account's bucket, if it has as much; decided before anything else takes from it."""

    def settle(self, bucket: Bucket, used: int) -> None:
        """What was taken came to `used`. Does not block."""


class LocalBuckets:
    """In memory. Belongs to the event loop. `clock` is any that goes forward, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By account: when it is full, and what was ever given back.
        self._levels: dict[str, tuple[int, int]] = {}

    async def take(self, account: str, limit: int, amount: int = 1) -> Bucket:
        """See Buckets. Decided without an await, so nothing comes between."""
        now = self._now()
        before, returned = self._levels.get(account, (now, 0))
        full_at = max(before, now) + amount * gap(limit)
        if admitted := full_at - now <= whole(limit):
            self._levels[account] = (full_at, returned)
        else:
            full_at = max(before, now)
        return Bucket(account, limit, amount, full_at - now, admitted, full_at + returned)

    def settle(self, bucket: Bucket, used: int) -> None:
        """See Buckets."""
        now, owed = self._now(), bucket.owed(used)
        full_at, returned = self._levels.get(bucket.account, (now, 0))
        if owed > 0:
            self._levels[bucket.account] = (max(full_at, now) + owed, returned)
        else:
            back = max(0, min(-owed, bucket.mark - returned - now))
            self._levels[bucket.account] = (full_at - back, returned + back)

    def _now(self) -> int:
        return round(self._clock() * 1e9)


def gap(limit: int) -> int:
    """Nanoseconds in which one more becomes possible."""
    return MINUTE // limit


def whole(limit: int) -> int:
    """Nanoseconds in which an empty bucket becomes full: a minute, but for what a gap's rounding leaves."""
    return limit * gap(limit)
