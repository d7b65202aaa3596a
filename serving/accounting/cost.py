"""Seconds and tokens to money. Pure functions; money is Decimal, in US dollars."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from serving.accounting.record import RequestCost, Share, Tokens

_NANOSECONDS_PER_HOUR = Decimal(3600 * 10**9)
_MILLIONTH = Decimal("0.000001")  # to divide takes several times as long as to multiply
# A tenth of a nano-dollar: well under the cost of one token, and short enough to read.
_FORMAT = ".10f"


@dataclass(frozen=True, slots=True)
class GpuPrice:
    """What one accelerator (or the whole machine, on a CPU) costs per hour, and how we know."""

    id: str
    name_patterns: tuple[str, ...]
    usd_per_hour: Decimal
    source: str
    as_of: str
    basis: Literal["quoted", "assumed", "configured"]
    deprecates_on: str | None = None


@dataclass(frozen=True, slots=True)
class ApiPrice:
    """A hosted model's list price in US dollars per million tokens, and the row that holds once it is gone."""

    id: str
    provider: str
    input_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal
    source: str
    as_of: str
    deprecates_on: str | None
    successor: str | None = None


@dataclass(frozen=True, slots=True)
class Prices:
    """Everything that turns a record into money."""

    gpu: GpuPrice
    hosted: tuple[ApiPrice, ...] = ()


def seconds_usd(seconds: float, price: GpuPrice) -> Decimal:
    """What `seconds` of one accelerator cost, to the nanosecond: all digits of a float take three times as long."""
    return Decimal(round(seconds * 1e9)) * price.usd_per_hour / _NANOSECONDS_PER_HOUR


def request_cost(share: Share, price: GpuPrice) -> RequestCost:
    """Self-hosted cost of one request from its share of accelerator seconds."""
    usage = seconds_usd(share.busy_s + share.host_s, price)
    return RequestCost(usage, usage + seconds_usd(share.idle_s, price))


def priced(share: Share, tokens: Tokens, prices: Prices) -> RequestCost:
    """The same, with what the tokens would cost at each hosted model."""
    usage = seconds_usd(share.busy_s + share.host_s, prices.gpu)
    hosted = {price.id: hosted_usd(tokens, price) for price in prices.hosted}
    return RequestCost(usage, usage + seconds_usd(share.idle_s, prices.gpu), hosted)


def hosted_usd(tokens: Tokens, price: ApiPrice) -> Decimal:
    """What the same tokens would cost at a hosted API, at list price and token for token.

    Cached prompt tokens are priced as cached: the hosted cache is assumed to hit where ours did.
    """
    fresh = tokens.prompt - tokens.cached
    total = fresh * price.input_usd_per_mtok
    if tokens.cached:
        total += tokens.cached * price.cached_input_usd_per_mtok
    return (total + tokens.completion * price.output_usd_per_mtok) * _MILLIONTH


def money(usd: Decimal) -> str:
    """US dollars as a plain decimal string without an exponent."""
    return format(usd, _FORMAT)


def price_object(gpu: GpuPrice) -> dict[str, str]:
    """As responses state it."""
    stated = {"id": gpu.id, "usd_per_hour": str(gpu.usd_per_hour), "source": gpu.source, "as_of": gpu.as_of}
    return {**stated, "basis": gpu.basis}


def cost_object(cost: RequestCost, share: Share, price: Mapping[str, str], *, simulated: bool) -> dict[str, Any]:
    """The response's `breakeven.cost` object; `price` is a `price_object`."""
    return {
        "currency": "USD",
        "allocation_usd": money(cost.allocation_usd),
        "usage_usd": money(cost.usage_usd),
        "busy_seconds": to_microseconds(share.busy_s),
        "host_seconds": to_microseconds(share.host_s),
        "idle_seconds": to_microseconds(share.idle_s),
        "basis": "simulated" if simulated else "measured",
        "price": price,
        "hosted_equivalent_usd": {model: money(usd) for model, usd in cost.hosted_usd.items()},
    }


def to_microseconds(seconds: float) -> float:
    """Rounded. `round(seconds, 6)` goes by way of a string."""
    return round(seconds * 1e6) / 1e6
