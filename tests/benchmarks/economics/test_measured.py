"""Measurements become figures that keep their bounds, their source and how they are known."""

from decimal import Decimal

import pytest

from benchmarks.economics.bills import hosted_bill, self_hosted
from benchmarks.economics.defaults import make_scenario
from benchmarks.economics.demand_fit import ShapeRun, demand_figures, fit_demand
from benchmarks.economics.measured import Observed, sweep_figures, window_figures
from benchmarks.economics.sweep import SloRate
from benchmarks.errors import ModelError
from benchmarks.prices import load_prices

D = Decimal
BOOK = load_prices()
WINDOW = Observed(
    queries=100, abstained=20, prompt_tokens=8_000, cached_prompt_tokens=2_000, output_tokens=1_600, busy_gpu_s=40,
    billed_gpu_s=160,
)  # fmt: skip


def test_a_window_prices_its_own_traffic() -> None:
    known = window_figures(WINDOW, "the last hour")
    made = make_scenario(BOOK.gpu("a10g"), BOOK.api("gpt-4o"), known)
    per_answer = (D(75) * D("2.50") + D(25) * D("1.25") + D(20) * D("10")) / 1_000_000
    assert hosted_bill(made).usd_per_query == pytest.approx(D("0.8") * per_answer)
    # 80 answers in 40 busy seconds are 2 a second; 0.7 of that is sold, twice the mean is provided for.
    step = self_hosted(made).steps[0]
    assert step.queries_per_month == pytest.approx(D(2) * D("0.7") / 2 * 730 * 3600 / D("0.8"))
    assert WINDOW.utilisation == 0.25
    kinds = {name: figure.kind for name, figure in known.items()}
    assert (kinds["prompt_tokens"], kinds["queries_per_minute"]) == ("measured", "modelled")


def test_a_window_without_answers_says_so() -> None:
    with pytest.raises(ModelError, match="nothing was answered"):
        window_figures(Observed(5, 5, 0, 0, 0, 0.0, 60.0), "the last hour")


def test_a_sweep_keeps_its_interval_and_admits_that_it_was_short() -> None:
    (rate,) = sweep_figures(SloRate(0.5, open_ended=False, low=0.4, high=0.6), "run 7").values()
    assert (rate.value, rate.low, rate.high, rate.kind) == (30, 24, 36, "measured")
    (rate,) = sweep_figures(SloRate(0.5, open_ended=True), "run 7").values()
    assert (rate.low, rate.source[:17]) == (None, "run 7; at least, ")


def test_a_fitted_demand_becomes_the_capacity() -> None:
    runs = [
        ShapeRun(p, o, c, 0.01 + 1e-4 * p + 1e-3 * o + 2e-3 * o / c)
        for p in (100.0, 1400.0)
        for o in (16.0, 250.0)
        for c in (1.0, 8.0)
    ]
    known = demand_figures(fit_demand(runs, draws=20), 8, "grid 3")
    assert {figure.kind for figure in known.values()} == {"modelled"}
    assert known["decode_gpu_s_per_token"].value == pytest.approx(D("0.00125"), rel=D("1e-6"))
    made = make_scenario(BOOK.gpu("a10g"), BOOK.api("gpt-4o"), known)
    assert made.capacity.queries_per_minute is None
    gpu_s = 0.01 + 0.14 + 250 * 0.00125
    assert float(made.capacity.queries_per_s(made.workload)) == pytest.approx(0.7 / gpu_s, rel=1e-6)
