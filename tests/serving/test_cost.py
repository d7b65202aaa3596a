"""Seconds and tokens to money, against sums that anyone can do by hand."""

from decimal import Decimal

from serving.accounting.cost import (
    ApiPrice,
    GpuPrice,
    Prices,
    cost_object,
    hosted_usd,
    money,
    price_object,
    priced,
    request_cost,
)
from serving.accounting.record import Share, Tokens

A10G = GpuPrice("a10g", (), Decimal("1.50"), "anchor", "2024-06-01", "quoted")
GPT_4O_MINI = ApiPrice("gpt-4o-mini", "openai", Decimal("0.15"), Decimal("0.075"), Decimal("0.60"), "anchor", "x", None)
HAIKU = ApiPrice("claude-haiku-3.5", "anthropic", Decimal("0.80"), Decimal("0.08"), Decimal("4"), "anchor", "x", None)


def test_thirty_requests_a_minute_on_an_a10g() -> None:
    # 30 requests a minute at full load are 2 seconds each: $1.50 / 1800.
    cost = request_cost(Share(busy_s=2.0), A10G)
    assert round(cost.usage_usd, 6) == Decimal("0.000833")
    assert cost.allocation_usd == cost.usage_usd


def test_the_hosts_time_is_in_both_and_idle_time_in_the_allocation_only() -> None:
    share = Share(busy_s=2.0, idle_s=6.0, host_s=1.0)
    for cost in (request_cost(share, A10G), priced(share, Tokens(), Prices(A10G))):
        assert cost.usage_usd == Decimal(3) * Decimal("1.50") / 3600
        assert cost.allocation_usd == 3 * cost.usage_usd


def test_hosted_anchor_of_1400_in_and_250_out() -> None:
    tokens = Tokens(prompt=1400, completion=250)
    assert hosted_usd(tokens, GPT_4O_MINI) == Decimal("0.00036")
    assert hosted_usd(tokens, HAIKU) == Decimal("0.00212")


def test_cached_tokens_are_priced_as_cached() -> None:
    tokens = Tokens(prompt=1000, cached=400)
    assert hosted_usd(tokens, GPT_4O_MINI) == Decimal("0.00012")


def test_money_is_plain_digits() -> None:
    assert money(Decimal("3.027333E-9")) == "0.0000000030"


def test_cost_object_says_where_its_price_comes_from() -> None:
    share, tokens = Share(1.0), Tokens(10, completion=5)
    cost = cost_object(priced(share, tokens, Prices(A10G, (GPT_4O_MINI,))), share, price_object(A10G), simulated=True)
    assert cost["basis"] == "simulated"
    assert cost["price"] == {
        "id": "a10g", "usd_per_hour": "1.50", "source": "anchor", "as_of": "2024-06-01", "basis": "quoted",
    }  # fmt: skip
    assert cost["hosted_equivalent_usd"] == {"gpt-4o-mini": "0.0000045000"}
