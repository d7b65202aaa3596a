"""Whole answers told apart into prefill and decode: by the engine's own means, and never more than was metered."""

import asyncio
import math
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from serving.accounting.engine_rates import EngineRates, engine_rates
from serving.accounting.ledger.export import lines
from serving.accounting.ledger.sqlite import SqliteDatabase
from serving.accounting.record import Tokens
from serving.engine.seconds import EngineSeconds, read_page
from tests.serving.gateways import running, settings_for

SECONDS = st.floats(0, 1e5)
COUNTS = st.integers(0, 10**6)
PAGE = b"""# HELP vllm:request_prefill_time_seconds Histogram of time spent in PREFILL phase for request.
vllm:request_queue_time_seconds_count{engine="0",model_name="a b"} 3.0
vllm:request_queue_time_seconds_sum{engine="0",model_name="a b"} 0.25
vllm:request_prefill_time_seconds_sum{engine="0",model_name="a b"} 1.5
vllm:request_prefill_time_seconds_sum{engine="1",model_name="a b"} 0.5
vllm:request_decode_time_seconds_sum{engine="0",model_name="a b"} 6e+00
vllm:request_prefill_kv_computed_tokens_sum{engine="0",model_name="a b"} 400.0
vllm:request_generation_tokens_sum{engine="0",model_name="a b"} 60.0
"""


@given(busy_s=SECONDS, rates=st.tuples(SECONDS, SECONDS, SECONDS), prompt=COUNTS, cached=COUNTS, completion=COUNTS)
def test_a_part_is_never_more_than_the_whole(
    busy_s: float, rates: tuple[float, float, float], prompt: int, cached: int, completion: int
) -> None:
    part = EngineRates(*rates).prefill_of(busy_s, Tokens(prompt, cached, 0, completion))
    assert part is None or 0 <= part <= busy_s * (1 + 1e-9)


def test_long_prompts_are_prefill_and_long_answers_decode() -> None:
    rates = engine_rates(10, (1.0, 2.0, 30.0), 1000, 1500)
    assert rates is not None
    assert rates.prefill_of(4.0, Tokens(prompt=450, completion=0)) == pytest.approx(4.0)
    # A tenth of a second in the queue, 0.9 in 450 computed tokens, 2 in 100 generated ones.
    assert rates.prefill_of(6.0, Tokens(prompt=500, cached=50, completion=100)) == pytest.approx(2.0)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_an_engine_that_has_measured_nothing_sensible_says_nothing(value: float) -> None:
    assert engine_rates(value, (0.0, 1.0, 1.0), 10, 10) is None
    assert engine_rates(1, (0.0, 1.0, 1.0), value, 10) is None
    assert engine_rates(1, (0.0, 1.0, 1.0), 10, value) is None
    assert value == 0 or engine_rates(1, (0.0, value, 1.0), 10, 10) is None


def test_vllms_page_is_summed_over_its_engines() -> None:
    assert read_page(PAGE) == EngineSeconds(3, 0.25, 2.0, 6.0, 400, 60)


@pytest.mark.parametrize(
    "page", [b"", b"go_goroutines 12\n", PAGE.replace(b"6e+00", b"?"), PAGE.rpartition(b"vllm:")[0], b"\xff{" * 9]
)
def test_a_page_that_does_not_say_is_no_measurement(page: bytes) -> None:
    assert read_page(page) is None


async def test_whole_answers_are_told_apart_once_the_engine_has_measured(tmp_path: Path) -> None:
    engine = {"simulated_ttft_s": 0.03, "simulated_itl_s": 0.01, "simulated_tokens": 6}
    async with running(settings_for(tmp_path, engine=engine)) as stack, httpx.AsyncClient(base_url=stack.url) as client:

        async def ask(stream: bool) -> None:
            body = {"model": "plain", "messages": [{"role": "user", "content": "one two three"}], "stream": stream}
            (await client.post("/v1/chat/completions", json=body)).raise_for_status()

        await ask(stream=False)
        while stack.gateway.runtime.meter.rates is None:  # noqa: ASYNC110  # nothing announces it
            await asyncio.sleep(0.02)
        await ask(stream=False)
        await ask(stream=True)
        page = (await client.get("/metrics")).text
    usd = {
        (sample.labels["stage"], sample.labels["split"]): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if sample.name == "breakeven_stage_cost_usd_total" and sample.labels["model"] == "plain"
    }
    assert usd["prefill", "apportioned"] == pytest.approx(usd["decode", "apportioned"] / 2, rel=1e-6)
    assert usd["generate", "timed"] > 0
    rows = [line for line in lines(SqliteDatabase(tmp_path / "ledger.db"), 0.0, 1e12) if line["prompt_tokens"]]
    assert [(row["stream"], row["prefill_apportioned"]) for row in rows] == [(0, 0), (0, 1), (1, 0)]
    assert rows[1]["prefill_s"] == pytest.approx(rows[1]["busy_s"] / 3)
    assert float(rows[1]["prefill_usd"]) + float(rows[1]["decode_usd"]) == pytest.approx(
        float(rows[1]["usage_usd"]), abs=1e-9
    )
