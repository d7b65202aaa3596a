"""What a replica sustains: demand fitted from a grid, the knee of a sweep, queueing against a simulation."""

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.economics.demand import ServiceDemand, idle_usd, saturation_queries_per_s, token_split, utilisation
from benchmarks.economics.demand_fit import DemandFit, ShapeRun, fit_demand
from benchmarks.economics.queueing import check, erlang_c, mean_wait_s, replicas_for_wait
from benchmarks.economics.simulation import daily_arrivals, exponential_service, poisson_arrivals, simulate
from benchmarks.economics.sweep import SweepPoint, slo_rate, sweep_point
from benchmarks.errors import ModelError
from benchmarks.load.plan import Slo

D = Decimal
BASE, PREFILL, DECODE, STEP = 0.004, 2e-5, 3e-4, 6e-3


def true_gpu_s(run: tuple[float, float, float]) -> float:
    prompt, output, concurrency = run
    return BASE + PREFILL * prompt + DECODE * output + STEP * output / concurrency


def grid(noise: float = 0.0, concurrencies: tuple[float, ...] = (1, 8, 32), seed: int = 1) -> list[ShapeRun]:
    random = np.random.default_rng(seed)
    cells = [(p, o, c) for p in (100.0, 700.0, 1400.0) for o in (16.0, 128.0, 256.0) for c in concurrencies]
    return [ShapeRun(*cell, true_gpu_s(cell) * (1 + noise * random.standard_normal())) for cell in cells]


def coefficients(fit: DemandFit) -> list[float]:
    assert fit.step_gpu_s_per_token is not None
    terms = (fit.base_gpu_s, fit.prefill_gpu_s_per_token, fit.decode_gpu_s_per_token, fit.step_gpu_s_per_token)
    return [term.value for term in terms]


def test_a_clean_grid_gives_its_coefficients_back() -> None:
    fit = fit_demand(grid(), draws=50)
    assert coefficients(fit) == pytest.approx([BASE, PREFILL, DECODE, STEP], rel=1e-6)
    assert float(fit.at(8).gpu_s(D(1400), D(250))) == pytest.approx(true_gpu_s((1400, 250, 8)), rel=1e-6)


def test_a_noisy_grid_gives_intervals_that_hold_the_truth() -> None:
    held = np.zeros(4)
    for seed in range(20):
        fit = fit_demand(grid(noise=0.05, seed=seed), draws=100, seed=seed)
        assert fit.step_gpu_s_per_token is not None
        terms = (fit.base_gpu_s, fit.prefill_gpu_s_per_token, fit.decode_gpu_s_per_token, fit.step_gpu_s_per_token)
        for index, (term, truth) in enumerate(zip(terms, (BASE, PREFILL, DECODE, STEP), strict=True)):
            assert 0 <= term.low <= term.high
            held[index] += term.low <= truth <= term.high
    # 95 % intervals from a bootstrap of 27 cells; most of 20 must hold, or they are no intervals.
    assert held.min() >= 15


def test_coefficients_are_never_negative() -> None:
    """Prompts that cost nothing, and outputs that cost more than in proportion: least squares alone would go below."""
    fit = fit_demand([ShapeRun(p, o, 8, 1e-4 * (o - 2)) for p in (10.0, 500.0, 900.0) for o in (20.0, 40.0)], draws=20)
    assert fit.prefill_gpu_s_per_token.value == pytest.approx(0, abs=1e-12)
    assert fit.decode_gpu_s_per_token.value == pytest.approx(1e-4, rel=0.1)
    assert fit.base_gpu_s.value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (grid()[:4], "measure more shapes"),
        ([ShapeRun(100, o, 8, 0.1) for o in (1.0, 2.0, 3.0, 4.0)], "one value of prompt_tokens"),
        ([ShapeRun(p, 10, 8, 0.1) for p in (1.0, 2.0, 3.0, 4.0)], "one value of output_tokens"),
        ([ShapeRun(10 * o, o, 8, 0.1) for o in (1.0, 2.0, 3.0, 4.0, 5.0)], "varies .* together"),
        ([ShapeRun(100, 10, 8, 0.0)] * 5, "above zero"),
    ],
)
def test_a_grid_that_cannot_tell_is_refused(runs: list[ShapeRun], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        fit_demand(runs)


def test_a_fit_does_not_speak_of_concurrencies_that_nobody_measured() -> None:
    with pytest.raises(ModelError, match=r"was not measured \(only 8 to 8\)"):
        fit_demand(grid(concurrencies=(8,)), draws=10).at(32)


@settings(deadline=None)
@given(
    st.decimals(D("0.1"), D(10), places=3),
    st.decimals(D("0.01"), D(1), places=3),
    st.integers(0, 4000),
    st.integers(1, 1000),
)
def test_in_and_out_prices_add_up_to_the_bill(price: Decimal, busy: Decimal, prompt: int, output: int) -> None:
    demand = ServiceDemand(D("0.004"), D("0.00002"), D("0.0003"), D("1.2"))
    gpu_s = demand.gpu_s(D(prompt), D(output))
    bill = gpu_s / busy * price / 3600  # the busy seconds and the idle ones beside them

    def cost_at(share: Decimal) -> Decimal:
        split = token_split(demand, price, share)
        return split.usd_per_query + (prompt * split.usd_per_mtok_in + output * split.usd_per_mtok_out) / 1_000_000

    assert cost_at(busy) == pytest.approx(bill, rel=D("1e-20"))
    assert cost_at(D(1)) + idle_usd(bill, busy) == pytest.approx(bill, rel=D("1e-20"))
    assert saturation_queries_per_s(gpu_s) * gpu_s == pytest.approx(D(1), rel=D("1e-20"))


def test_cached_prompt_tokens_cost_nothing() -> None:
    demand = ServiceDemand(D(0), D("0.001"), D("0.01"))
    assert demand.gpu_s(D(1000), D(10), D("0.75")) == D("0.35")


def test_more_busy_than_billed_is_refused() -> None:
    with pytest.raises(ModelError, match="billed"):
        utilisation(D(2), D(1))


SLO = Slo(ttft_s=1.0, e2e_s=10.0)


def sweep(*points: tuple[float, float, float]) -> list[SweepPoint]:
    return [SweepPoint(*point) for point in points]


def test_the_knee_is_between_the_last_rate_that_holds_and_the_first_that_fails() -> None:
    found = slo_rate(sweep((1, 0.2, 4), (2, 0.5, 5), (3, 1.5, 6)), SLO)
    assert found.queries_per_s == pytest.approx(2.5)
    assert not found.open_ended
    assert slo_rate(sweep((1, 0.2, 4), (2, 0.2, 20)), SLO).queries_per_s == pytest.approx(1 + 0.6 / 1.6)


def test_a_lucky_run_beyond_the_knee_does_not_count() -> None:
    assert slo_rate(sweep((1, 0.2, 4), (2, 2.0, 5), (3, 0.5, 5)), SLO).queries_per_s < 2


def test_a_sweep_is_never_extrapolated() -> None:
    found = slo_rate(sweep((1, 0.2, 4), (2, 0.5, 5)), SLO)
    assert (found.queries_per_s, found.open_ended) == (2, True)
    with pytest.raises(ModelError, match="slower"):
        slo_rate(sweep((1, 2, 4), (2, 3, 5)), SLO)


def test_failures_count_as_late_and_repeats_give_an_interval() -> None:
    late = sweep_point(2, [0.1] * 90 + [None] * 10, [1.0] * 100)
    assert math.isinf(late.ttft_p95_s)
    assert math.isinf(sweep_point(2, [None] * 21, [1.0] * 21).ttft_p95_s)
    assert sweep_point(2, [0.1] * 20 + [None], [1.0] * 21).ttft_p95_s == 0.1
    assert slo_rate([SweepPoint(1, 0.1, 1), late], SLO).queries_per_s == 1
    repeats = [SweepPoint(rate, rate / 3 * (1 + wobble), 1) for rate in (1, 2, 3, 4) for wobble in (-0.1, 0, 0.1)]
    found = slo_rate(repeats, SLO, draws=200)
    assert found.low is not None
    assert found.high is not None
    assert found.queries_per_s == pytest.approx(3)
    assert found.low < found.queries_per_s < found.high


@pytest.mark.parametrize(("servers", "offered", "expected"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (10, 8.0, 0.4092)])
def test_erlang_c_against_published_values(servers: int, offered: float, expected: float) -> None:
    assert erlang_c(servers, offered) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(("servers", "rate"), [(1, 0.7), (4, 3.0), (12, 10.2)])
def test_the_simulation_agrees_with_erlang_c(servers: int, rate: float) -> None:
    queries = 60_000
    played = simulate(poisson_arrivals(rate, queries, 1), exponential_service(1.0, queries, 2), servers)
    expected = check(servers, rate, 1.0)
    assert played.mean_wait_s == pytest.approx(expected.mean_wait_s, rel=0.15)
    assert played.waited_share == pytest.approx(expected.wait_probability, abs=0.03)
    assert played.utilisation == pytest.approx(expected.utilisation, rel=0.03)


def test_allen_cunneen_agrees_with_a_simulation_of_constant_service() -> None:
    played = simulate(poisson_arrivals(3.2, 60_000, 3), [1.0] * 60_000, 4)
    assert played.mean_wait_s == pytest.approx(mean_wait_s(4, 3.2, 1.0, variability=0.5), rel=0.15)


def test_a_saturated_queue_never_settles() -> None:
    assert mean_wait_s(2, 2.0, 1.0) == math.inf
    servers = replicas_for_wait(20, 1.0, 0.05)
    assert mean_wait_s(servers, 20, 1.0) <= 0.05 < mean_wait_s(servers - 1, 20, 1.0)


def test_a_fleet_for_the_mean_drowns_in_the_peak() -> None:
    day = daily_arrivals(1.0, [1, 1, 1, 5], days=3, seed=4)
    assert len(day) == pytest.approx(3 * 4 * 3600, rel=0.05)
    assert day == sorted(day)
    service = exponential_service(1.0, len(day), 5)
    for_mean, for_peak = (simulate(day, service, servers) for servers in (2, 4))
    assert for_mean.p95_wait_s > 60
    assert for_peak.p95_wait_s < 2
