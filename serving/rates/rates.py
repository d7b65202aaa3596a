"""Requests and tokens per minute of a key, with OpenAI's errors and headers. Keys without a limit cost nothing here."""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from serving.auth import Caller
from serving.errors import GatewayError
from serving.rates.buckets import Bucket, Buckets
from serving.rates.tokens import Habits, Hold, Need, need_of

Kind = Literal["requests", "tokens"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_NAMES: Mapping[Kind, str] = {"requests": "requests per min (RPM)", "tokens": "tokens per min (TPM)"}


class RateLimited(GatewayError):
    """A key sent more requests than it may, or wants more tokens; OpenAI's error for the same."""

    status = 429
    code = "rate_limit_exceeded"
    rates: Mapping[str, str] = {}
    retry_ms: int | None = None

    def headers(self) -> dict[str, str]:
        """With the buckets, and the wait in milliseconds, which OpenAI's clients prefer."""
        wait = {} if self.retry_ms is None else {"retry-after-ms": str(self.retry_ms)}
        return {**super().headers(), **self.rates, **wait}


class RequestTooLarge(GatewayError):
    """It wants more tokens than its key may have in a minute, so waiting would not help: not 429, which clients send
    again."""

    status = 413
    kind = "tokens"
    code = "rate_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Admitted:
    """Headers that the answer should carry, and what is held for it."""

    headers: Mapping[str, str] = field(default_factory=dict)
    hold: Hold | None = None


class Rates:
    """What a request asks before anything is spent on it. Belongs to the event loop."""

    def __init__(self, buckets: Buckets) -> None:
        self._buckets, self._habits = buckets, Habits()
        self.refused: Counter[Kind] = Counter(dict.fromkeys(KINDS, 0))

    async def take(self, caller: Caller, fields: Mapping[str, Any], answers: int) -> Admitted:
        """For a request with these fields and so many answers. Raises RequestTooLarge, RateLimited, BadRequest,
        StoreUnavailable."""
        if caller.rates is None:
            return Admitted()
        requests, tokens = caller.rates.requests_per_minute, caller.rates.tokens_per_minute
        need = None if tokens is None else self._possible(caller, need_of(fields, answers), tokens)
        headers: dict[str, str] = {}
        if requests is not None:
            await self._take("requests", caller, requests, 1, headers)
        if need is None or tokens is None:
            return Admitted(headers)
        bucket = await self._take("tokens", caller, tokens, min(tokens, self._habits.amount(need)), headers)
        return Admitted(headers, Hold(self._buckets, bucket, need, self._habits))

    def _possible(self, caller: Caller, need: Need, limit: int) -> Need:
        if need.stated <= limit:
            return need
        self.refused["tokens"] += 1
        raise RequestTooLarge(
            f"Request too large for the key {caller.key_id} on {_NAMES['tokens']}: Limit {limit}, Requested "
            f"{need.stated}. The input or output tokens must be reduced in order to run successfully, or an operator "
            "must raise the limit: breakeven keys update --tokens-per-minute"
        )

    async def _take(self, kind: Kind, caller: Caller, limit: int, amount: int, headers: dict[str, str]) -> Bucket:
        account = f"{'key' if kind == 'requests' else kind}:{caller.key_id}"
        bucket = await self._buckets.take(account, limit, amount)
        headers.update(_headers(kind, bucket))
        if not bucket.admitted:
            self.refused[kind] += 1
            raise _refusal(kind, caller.key_id, bucket, headers)
        return bucket


def _headers(kind: Kind, bucket: Bucket) -> dict[str, str]:
    found = {"limit": str(bucket.limit), "remaining": str(bucket.left), "reset": _duration(bucket.full_s)}
    return {f"x-ratelimit-{name}-{kind}": value for name, value in found.items()}


def _refusal(kind: Kind, key_id: str, bucket: Bucket, headers: Mapping[str, str]) -> RateLimited:
    error = RateLimited(
        f"Rate limit reached for the key {key_id} on {_NAMES[kind]}: Limit {bucket.limit}, Used "
        f"{bucket.limit - bucket.left}, Requested {bucket.amount} ({bucket.left} left). Please try again in "
        f"{_duration(bucket.retry_s)}; an operator can raise it: breakeven keys update --{kind}-per-minute",
        retry_after_s=math.ceil(bucket.retry_s),  # who comes a moment too early is refused again
    )
    error.kind, error.rates, error.retry_ms = kind, headers, math.ceil(bucket.retry_s * 1000)
    return error


def _duration(seconds: float) -> str:
    """As OpenAI writes it: 12ms, 8.64s, 1m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, left = divmod(math.ceil(seconds * 100) / 100, 60)
    shown = f"{left:.2f}".rstrip("0").rstrip(".")
    return f"{int(minutes)}m{shown}s" if minutes else f"{shown}s"
