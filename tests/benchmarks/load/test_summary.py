"""Metrics from rows that are known: every figure here was worked out by hand."""

import dataclasses
import io
from decimal import Decimal
from typing import Any

import pytest
from rich.console import Console

from benchmarks.load.plan import Slo
from benchmarks.load.record import LoadResult, RequestRow, RunHeader
from benchmarks.load.summary import Percentiles, percentile, summarise
from benchmarks.load.tables import print_summary

COST: dict[str, Any] = {
    "allocation_usd": "0.0000300000",
    "usage_usd": "0.0000100000",
    "basis": "measured",
    "price": {"usd_per_hour": "0.10", "basis": "assumed"},
    "hosted_equivalent_usd": {"gpt-4o": "0.0060000000"},
}


NO_SLO = Slo()


def header(slo: Slo = NO_SLO) -> RunHeader:
    return RunHeader(
        command="breakeven bench",
        endpoint="http://127.0.0.1:8000/v1",
        models=("m",),
        load="closed loop, 1 at a time",
        loop="closed",
        concurrency=1,
        rate=None,
        workload="synthetic",
        stream=True,
        max_tokens=16,
        seed=0,
        slo=slo,
        started_at="2026-11-20T00:00:00+00:00",
    )


def row(index: int, **fields: Any) -> RequestRow:
    """An answered request, scheduled and sent at 0 and over after 1 s unless the fields say otherwise."""
    plain = RequestRow(
        index=index,
        scheduled_s=0.0,
        sent_s=0.0,
        first_byte_s=None,
        chunks_s=(),
        last_s=1.0,
        status=200,
        outcome="answered",
    )
    return dataclasses.replace(plain, **fields)


def test_percentiles_are_exact() -> None:
    found = Percentiles.of(float(value) for value in range(100, 0, -1))
    assert found is not None
    assert (found.count, found.p50) == (100, 50.5)
    assert [found.p95, found.p99] == pytest.approx([95.05, 99.01])
    assert Percentiles.of([]) is None
    assert percentile([3.0], 0.99) == 3.0


def test_latency_counts_from_the_scheduled_time() -> None:
    summary = summarise(
        LoadResult(header(), (row(0, scheduled_s=1.0, sent_s=3.0, chunks_s=(4.0, 4.5, 5.5), last_s=6.0),))
    )
    assert summary.ttft and summary.ttft.p50 == 3.0
    assert summary.e2e and summary.e2e.p50 == 5.0
    assert summary.gap and (summary.gap.count, summary.gap.p50) == (2, 0.75)
    assert summary.lateness and summary.lateness.p50 == 2.0
    assert summary.generator_fell_behind


def test_failures_and_abstentions_stay_out_of_the_latencies() -> None:
    rows = (
        row(0, chunks_s=(0.5, 1.0), last_s=2.0, completion_tokens=20),
        row(1, chunks_s=(0.001,), last_s=0.002, outcome="abstained", completion_tokens=0),
        row(2, last_s=4.0, outcome="truncated", error="the stream ended without data: [DONE]"),
    )
    summary = summarise(LoadResult(header(), rows))
    assert summary.outcomes == {"answered": 1, "abstained": 1, "truncated": 1}
    assert summary.ttft == Percentiles(1, 0.5, 0.5, 0.5)
    assert summary.e2e == Percentiles(1, 2.0, 2.0, 2.0)
    assert (summary.wall_s, summary.answered_per_s, summary.completion_tokens_per_s) == (4.0, 0.25, 5.0)
    assert summary.first_error == "truncated: the stream ended without data: [DONE]"


@pytest.mark.parametrize(
    ("slo", "good"), [(NO_SLO, None), (Slo(ttft_s=0.5), 2), (Slo(e2e_s=1.0), 1), (Slo(0.5, 1.0), 0)]
)
def test_goodput_counts_answers_within_every_bound(slo: Slo, good: int | None) -> None:
    rows = (
        row(0, chunks_s=(0.5,), last_s=2.0),
        row(1, chunks_s=(0.4,), last_s=3.0),
        row(2, chunks_s=(0.9,), last_s=1.0),
        row(3, chunks_s=(0.1,), last_s=0.2, outcome="truncated"),
    )
    summary = summarise(LoadResult(header(slo), rows))
    assert summary.good == good
    assert summary.goodput_per_s == (None if good is None else good / 3)


def test_cost_is_the_mean_of_those_that_carry_one() -> None:
    other = {**COST, "allocation_usd": "0.0000500000", "usage_usd": "0.0000200000"}
    rows = (row(0, cost=COST), row(1, cost=other, outcome="abstained"), row(2, outcome="http_error"))
    cost = summarise(LoadResult(header(), rows)).cost
    assert cost is not None
    assert (cost.count, cost.allocation_usd, cost.usage_usd) == (2, Decimal("0.00004"), Decimal("0.000015"))
    assert cost.hosted_usd == {"gpt-4o": Decimal("0.006")}
    assert cost.label == "measured, at $0.10/h assumed"


@pytest.mark.parametrize("basis", ["measured", "simulated"])
def test_a_simulated_run_says_so_first(basis: str) -> None:
    page = io.StringIO()
    print_summary(summarise(LoadResult(header(), (row(0, cost={**COST, "basis": basis}),))), Console(file=page))
    assert page.getvalue().startswith("SIMULATED") == (basis == "simulated")


def test_a_run_without_rows_has_no_figures() -> None:
    summary = summarise(LoadResult(header(Slo(ttft_s=1.0)), ()))
    assert (summary.requests, summary.answered_per_s, summary.ttft, summary.cost) == (0, 0.0, None, None)
    assert summary.goodput_per_s == 0.0


def test_the_table_says_what_was_measured() -> None:
    rows = (
        row(0, chunks_s=(0.1, 0.2), last_s=0.5, completion_tokens=2, cost=COST),
        row(1, outcome="http_error", error="[/oops] no"),
    )
    page = io.StringIO()
    print_summary(summarise(LoadResult(header(Slo(ttft_s=1.0)), rows)), Console(file=page, width=120))
    text = page.getvalue()
    for words in ("1 answered, 1 http_error", "first token", "100.0", "$0.00003000", "assumed", "1 of 2", "[/oops] no"):
        assert words in text
