"""What runs say: recovered from results whose answer is known, and silent where nothing was measured."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.economics.demand_fit import DemandFit
from benchmarks.economics.sweep import SloRate
from benchmarks.experiments.findings import Findings, Gap, Sweep, findings
from benchmarks.experiments.results import Run
from benchmarks.load.plan import Slo
from benchmarks.load.record import LoadResult
from tests.benchmarks.report.made_results import OBJECTIVES, comparison, everything, grid, header, run, sweep


def found(results: list[LoadResult], objectives: Slo = OBJECTIVES) -> Findings:
    runs = []
    for result in results:
        labels = result.header.labels
        step, kind, variant = (str(labels.get(key, "")) for key in ("step", "kind", "variant"))
        runs.append(Run(step, kind, variant, str(labels["cell"]), result))
    return findings(runs, objectives)


def test_everything_is_found() -> None:
    held = found(everything())
    assert isinstance(held.sweep, Sweep)
    assert isinstance(held.sweep.rate, SloRate)
    assert 1 < held.sweep.rate.queries_per_s < 2
    assert [level.rate for level in held.sweep.levels] == [0.25, 0.5, 1, 2]
    assert held.sweep.levels[-1].good_per_s < 0.1
    assert set(held.comparisons) == {"retrieval", "prefix"}
    assert len(held.windows) == len(everything())


def test_the_demand_of_the_grid_is_recovered() -> None:
    fit = found(grid()).demand
    assert isinstance(fit, DemandFit)
    assert fit.prefill_gpu_s_per_token.value == pytest.approx(0.0005, rel=0.02)
    assert fit.decode_gpu_s_per_token.value == pytest.approx(0.004, rel=0.02)


def test_gaps_say_why() -> None:
    held = found(comparison("x", {"a": (0.1, 0.1), "b": (0.2, 0.2)}))
    assert held.sweep == Gap("no sweep of rates was run")
    assert held.demand == Gap("no grid of shapes was run")
    slow = found(sweep(), Slo(ttft_s=0.001)).sweep
    assert isinstance(slow, Sweep)
    assert isinstance(slow.rate, Gap)
    assert "already misses the objectives" in slow.rate.why
    aimless = found(sweep(), Slo()).sweep
    assert isinstance(aimless, Sweep)
    assert isinstance(aimless.rate, Gap)


def test_a_side_with_few_answers_is_no_side() -> None:
    sides = {"a": (0.1, 0.1), "b": (0.2, 0.2)}
    few = [replace(each, rows=each.rows[:4]) if each.header.labels["variant"] == "b" else each
           for each in comparison("x", sides)]  # fmt: skip
    assert list(found(few).comparisons["x"]) == ["a"]


def test_declined_requests_are_neither_fast_nor_late() -> None:
    with_, without = found(sweep()), found([replace(each, rows=each.rows[:-1]) for each in sweep()])
    assert isinstance(with_.sweep, Sweep)
    assert isinstance(without.sweep, Sweep)
    assert with_.sweep.levels == without.sweep.levels
    assert not isinstance(with_.traffic, Gap)
    assert with_.traffic.abstain_share == pytest.approx(8 / 200)


def test_failures_count_as_late() -> None:
    runs = sweep()
    broken = [
        replace(each, rows=tuple(replace(row, outcome="timeout", chunks_s=()) for row in each.rows))
        if each.header.rate == 1.0
        else each
        for each in runs
    ]
    held = found(broken).sweep
    assert isinstance(held, Sweep)
    assert isinstance(held.rate, SloRate)
    assert held.rate.queries_per_s == 0.5
    assert held.levels[2].ttft_p95_s == float("inf")


@given(st.lists(st.tuples(st.sampled_from([0.5, 1.0, 2.0, 4.0]), st.floats(0.05, 5)), min_size=1, max_size=6))
def test_the_rate_lies_among_the_rates_tried(tried: list[tuple[float, float]]) -> None:
    results = [
        run(header({"step": "s", "kind": "sweep", "cell": f"{number}"}, rate=rate), 8, 1 / rate, ttft_s=ttft)
        for number, (rate, ttft) in enumerate(tried)
    ]
    held = found(results).sweep
    assert isinstance(held, Sweep)
    rates = [rate for rate, _ in tried]
    assert [level.rate for level in held.levels] == sorted(set(rates))
    if isinstance(held.rate, SloRate):
        assert min(rates) <= held.rate.queries_per_s <= max(rates)
    for level in held.levels:
        assert 0 <= level.good_per_s <= level.sent
        assert level.ttft_p50_s <= level.ttft_p95_s <= level.e2e_p95_s + 1e-9
