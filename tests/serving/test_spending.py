"""Cost by stage, tenant and key: the stages add up, and hostile names cannot make the number of series grow."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from serving.accounting.meter import Meter
from serving.accounting.record import RequestRecord, Routed, Share, Times, Tokens
from serving.accounting.spending import MOST_KEYS, MOST_TENANTS, Spending
from serving.accounting.stages import STAGES, stages_of
from tests.serving.books import PRICE, Clock, request_record

SECONDS = st.floats(0, 1e6)
MAYBE = st.none() | SECONDS


def record(tenant: str = "acme", key: str = "k1", model: str = "plain", share: Share | None = None) -> RequestRecord:
    share = share or Share(busy_s=4.0, idle_s=2.0, host_s=0.4)
    times = Times(0.0, embed_s=0.01, search_s=0.03)
    return request_record(share, tenant=tenant, key_id=key, model=model, stream=True, times=times, prefill_s=1.0)


@given(busy=SECONDS, idle=SECONDS, host=SECONDS, spans=st.tuples(MAYBE, MAYBE, MAYBE), parts=st.tuples(MAYBE, MAYBE))
def test_the_stages_add_up_to_the_share(
    busy: float,
    idle: float,
    host: float,
    spans: tuple[float | None, float | None, float | None],
    parts: tuple[float | None, float | None],
) -> None:
    embed, search, rerank = spans
    route, prefill = parts
    routed = None if route is None else Routed("r", "l", 0.9, "m", "label", Tokens(), Share(min(route, busy / 2)))
    found = stages_of(
        replace(
            record(share=Share(busy, idle, host)),
            times=Times(0.0, embed_s=embed, search_s=search, rerank_s=rerank),
            routing=routed,
            prefill_s=None if prefill is None else min(prefill, busy / 2),
        )
    )
    assert sum(found) == pytest.approx(busy + idle + host)
    assert min(found) >= -1e-6


def test_a_stream_tells_prefill_from_decode_and_a_whole_answer_that_nothing_is_known_of_does_not() -> None:
    named = dict(zip(STAGES, stages_of(record()), strict=True))
    assert (named["prefill"], named["decode"], named["generate"]) == (1.0, 3.0, 0.0)
    assert (named["embed"], named["search"]) == (pytest.approx(0.1), pytest.approx(0.3))
    whole = dict(zip(STAGES, stages_of(replace(record(), prefill_s=None)), strict=True))
    assert (whole["prefill"], whole["decode"], whole["generate"]) == (0.0, 0.0, 4.0)


def test_retrieval_pays_only_while_the_accelerator_waits() -> None:
    clock = Clock()
    meter = Meter(clock=clock)
    first, second = meter.begin_host(), meter.begin_host()
    clock.now += 2
    assert meter.end_host(first) == pytest.approx(1.0)
    ticket = meter.begin()
    clock.now += 10  # the engine works, for somebody: retrieving beside it costs nothing
    assert meter.end_host(second) == pytest.approx(1.0)
    assert meter.end(ticket, completed=True).busy_s == pytest.approx(10.0)
    bill = meter.bill()
    assert (bill.billed_s, bill.busy_s, bill.host_s, bill.idle_s) == pytest.approx((12.0, 10.0, 2.0, 0.0))


def test_ten_thousand_hostile_names_are_a_bounded_number_of_series_and_no_dollar_is_lost() -> None:
    registry = CollectorRegistry()
    spending = Spending(PRICE, ["plain"])
    registry.register(spending)
    for number in range(10_000):
        name = f"t{number}\n\"'\\{{}}="
        spending.record(record(tenant=name, key=name))
        spending.record(record(tenant="acme", key=f"k{number}", model=f"plain@{number:012x}"))
    families = {family.name: family for family in text_string_to_metric_families(generate_latest(registry).decode())}
    assert len(families["breakeven_tenant_cost_usd"].samples) <= 2 * (MOST_TENANTS + 1)
    assert len(families["breakeven_key_cost_usd"].samples) <= 2 * (MOST_KEYS + MOST_TENANTS + 1)
    assert len(families["breakeven_stage_cost_usd"].samples) == 2 * (len(STAGES) + 2)
    spent = 20_000 * 6.4 * 0.001
    for name in ("breakeven_tenant_cost_usd", "breakeven_key_cost_usd"):
        whole = sum(sample.value for sample in families[name].samples if sample.labels["basis"] == "allocation")
        assert whole == pytest.approx(spent)
    assert sum(sample.value for sample in families["breakeven_stage_cost_usd"].samples) == pytest.approx(spent)
