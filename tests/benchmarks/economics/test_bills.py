"""Scenarios to bills: fleets, billing, hosted terms, months ahead, draws and sensitivities."""

from collections.abc import Mapping
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.economics.bills import hosted_bill, self_hosted
from benchmarks.economics.break_even import break_even
from benchmarks.economics.costs import query_cost, usd_per_answered, usd_per_correct
from benchmarks.economics.defaults import make_scenario
from benchmarks.economics.figures import Figure, assumed
from benchmarks.economics.fleet import BILLINGS, Billing, Run, Schedule, billed_hours, gpu_hours
from benchmarks.economics.horizon import Trends, months_ahead, payback_month
from benchmarks.economics.hosted import HostedTerms, QueryShape, TokenRates, query_usd
from benchmarks.economics.scenario import Choices, Scenario, figures, with_values
from benchmarks.economics.sensitivity import tornado
from benchmarks.economics.uncertainty import block_bootstrap, bootstrap, monte_carlo, quantiles
from benchmarks.errors import ModelError
from benchmarks.prices import ApiPrice, load_prices
from serving.accounting.cost import hosted_usd
from serving.accounting.record import Tokens

D = Decimal
BOOK = load_prices()


def figure(value: str, low: str | None = None, high: str | None = None) -> Figure:
    return assumed(value, "a test", low, high)


def scenario(*given: Mapping[str, str], model: str = "gpt-4o-mini", choices: Choices | None = None) -> Scenario:
    known = {name: figure(value) for values in given for name, value in values.items()}
    return make_scenario(BOOK.gpu("a10g-document"), BOOK.api(model), known, choices)


BARE = {"fte": "0", "peak_to_mean": "1", "api_usd_per_month": "0", "setup_usd": "0"}


def test_the_documents_case_is_the_anchor() -> None:
    own = self_hosted(scenario(BARE, {"hours_per_day": "8"}))
    assert own.usd(D(432_000)) == 360
    assert hosted_bill(scenario(BARE)).usd(D(10_000_000)) == 3_600


def test_people_and_retraining_are_in_the_bill() -> None:
    plain = self_hosted(scenario(BARE)).fixed_usd_per_month
    people = self_hosted(scenario(BARE, {"fte": "0.1"})).fixed_usd_per_month
    tuned = self_hosted(scenario(BARE, {"retrains_per_month": "1", "train_gpu_hours": "5"})).fixed_usd_per_month
    assert (plain, people) == (0, D("1787.5"))
    assert tuned == 5 * D("1.50") + 75 + 8 * D(165_000) / 2080 * D("1.3")


def test_redundancy_abstentions_and_demand() -> None:
    two = self_hosted(scenario(BARE, choices=Choices(min_replicas=2, spares=1)))
    assert two.replicas(D(1)) == (3,)
    shy = self_hosted(scenario(BARE, {"abstain_share": "0.5"}))
    assert shy.steps[0].queries_per_month == 2 * self_hosted(scenario(BARE)).steps[0].queries_per_month
    demand = {
        "base_gpu_s": "0",
        "prefill_gpu_s_per_token": "0.0005",
        "decode_gpu_s_per_token": "0.0052",
        "max_utilisation": "0.5",
    }
    half = self_hosted(scenario(BARE, demand))
    assert half.steps[0].queries_per_month == D(730) * 3600 / 4  # 0.7 + 1.3 seconds each, half of the time
    cached = self_hosted(scenario(BARE, demand, {"prefix_hit_share": "1"}))
    assert cached.steps[0].queries_per_month == pytest.approx(D(730) * 3600 / 2 / D("1.3"))


def test_following_the_load_is_cheaper_and_still_covers_every_hour() -> None:
    load = tuple(D(hour) for hour in (1, 1, 2, 4))
    values = {**BARE, "hours_per_day": "4", "cold_start_s": "180"}
    still = self_hosted(scenario(values, choices=Choices(hourly_load=load)))
    moving = self_hosted(scenario(values, choices=Choices(hourly_load=load, follow_load=True)))
    volume = 20 * still.steps[0].queries_per_month
    assert still.replicas(volume) == (20,)
    assert moving.replicas(volume) == (5, 5, 10, 20)
    # 30 days of 40 replica-hours, and 20 starts of 3 minutes a day.
    assert moving.usd(volume) == D("1.50") * 30 * (40 + 20 * D("0.05"))
    assert moving.usd(volume) < still.usd(volume)


@pytest.mark.parametrize(
    ("billing", "hours"),
    [("second", "242.5"), ("hour", "270"), ("month", "730")],
)
def test_billing_granularity(billing: Billing, hours: str) -> None:
    """8 h on 30 days, each started cold for 5 minutes: by the hour every day has a ninth one begun."""
    office = Schedule(D(8), D(30))
    assert billed_hours(office.hours_per_month, office.starts_per_month, D(300), billing) == D(hours)
    runs = [Run(2, D(8), starts=2), Run(5, D("0.5"), starts=3)]
    used = {"second": D("18.5") + D(5) * 300 / 3600, "hour": D(19), "month": D(5) * 730}
    assert gpu_hours(runs, D(300), billing) == pytest.approx(used[billing], abs=D(1) / 3600)


@settings(deadline=None)
@given(st.sampled_from(BILLINGS), st.integers(1, 24), st.integers(1, 31), st.integers(0, 900))
def test_nobody_bills_less_than_was_used(billing: Billing, hours: int, days: int, cold: int) -> None:
    schedule = Schedule(D(hours), D(days))
    used = schedule.hours_per_month + schedule.starts_per_month * cold / 3600
    billed = billed_hours(schedule.hours_per_month, schedule.starts_per_month, D(cold), billing)
    assert billed >= min(used, D(730)) - D("1e-9")


@settings(deadline=None)
@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 2000), st.sampled_from(BOOK.api_prices))
def test_hosted_cost_is_the_gateways_token_for_token(fresh: int, cached: int, out: int, price: ApiPrice) -> None:
    rates = TokenRates(price.input_usd_per_mtok, price.cached_input_usd_per_mtok, price.output_usd_per_mtok)
    prompt = fresh + cached
    shape = QueryShape(D(prompt), D(out), D(cached) / prompt if prompt else D(0))
    billed = hosted_usd(Tokens(prompt=prompt, cached=cached, completion=out), price)
    assert query_usd(shape, rates) == pytest.approx(billed, rel=D("1e-20"))


def test_hosted_terms() -> None:
    rates, shape = TokenRates(D(1), D("0.1"), D(4)), QueryShape(D(1000), D(250), D("0.5"))
    list_price = D("0.00155")
    assert query_usd(shape, rates) == list_price
    terms = HostedTerms(D("1.2"), abstain_share=D("0.1"), batch_share=D("0.4"), fees_usd_per_query=D("0.0025"))
    assert query_usd(shape, rates, terms) == D("0.9") * D("1.2") * list_price * D("0.8") + D("0.0025")


def test_allocation_usage_answered_and_correct() -> None:
    cost = query_cost(D(100), D("0.3"), D(1000))
    assert (cost.allocation_usd, cost.usage_usd) == (D("0.1"), D("0.03"))
    assert usd_per_answered(D("0.09"), D("0.1")) == D("0.1")
    assert usd_per_correct(D("0.09"), D("0.9")) == D("0.1")


def test_months_ahead_grow_and_prices_fall() -> None:
    made = scenario(BARE, model="gpt-4o")
    own, hosted = self_hosted(made), hosted_bill(made)
    trends = Trends(D("0.1"), api_price_decline_per_year=D("0.5"), gpu_price_decline_per_year=D("0.19"))
    ahead = months_ahead(own, hosted, D(1_000_000), 13, trends)
    assert (ahead[0].own_usd, ahead[0].hosted_usd) == (own.usd(D(1_000_000)), 6_000)
    assert ahead[12].volume == pytest.approx(D(1_000_000) * D("1.1") ** 12)
    assert ahead[12].hosted_usd == pytest.approx(ahead[12].volume * D("0.003"))
    assert ahead[12].own_usd == pytest.approx(own.machines_usd(ahead[12].volume) * D("0.81"))
    assert payback_month(ahead, ahead[0].saved_usd) == 1
    assert payback_month(ahead, ahead[0].saved_usd + 1) == 2
    assert payback_month(ahead, ahead[12].saved_usd * 2) is None


def test_volumes_may_shrink_and_prices_rise() -> None:
    made = scenario({"growth_per_month": "-0.2", "api_price_decline_per_year": "-0.1"})
    assert made.outlook.growth_per_month.bounds() == (D("-0.25"), D("-0.15"))
    trends = Trends(made.outlook.growth_per_month.value, made.outlook.api_price_decline_per_year.value)
    last = months_ahead(self_hosted(made), hosted_bill(made), D(1_000_000), 13, trends)[-1]
    assert last.volume == pytest.approx(D(1_000_000) * D("0.8") ** 12)
    assert last.hosted_usd == pytest.approx(last.volume * D("0.00036") * D("1.1") + 20)


def test_draws_repeat_and_hold_the_answer() -> None:
    values = {"queries_per_minute": figure("120", "60", "200")}
    made = make_scenario(BOOK.gpu("a10g"), BOOK.api("gpt-4o"), values)
    one, again = (monte_carlo(made, D(1_000_000), draws=200, seed=7) for _ in range(2))
    assert one == again != monte_carlo(made, D(1_000_000), draws=200, seed=8)
    safe, found = break_even(self_hosted(made), hosted_bill(made)).safe, one.safe_quantiles
    assert safe is not None
    assert found.p5 is not None
    assert found.p95 is not None
    assert found.p5 < float(safe) < found.p95
    assert one.pays_share == 1


def test_an_interval_is_open_when_too_many_draws_never_cross() -> None:
    infinite = float("inf")
    assert quantiles([1.0] * 98 + [infinite] * 2).p95 == 1.0
    assert quantiles([1.0] * 97 + [infinite] * 3).open_ended
    assert quantiles([infinite] * 10) == quantiles([infinite] * 3)
    assert quantiles([infinite]).p5 is None


def test_a_scenario_without_uncertainty_draws_itself() -> None:
    fixed = {name: Figure(held.value, "measured", "a test") for name, held in figures(scenario(model="gpt-4o")).items()}
    made = make_scenario(BOOK.gpu("a10g"), BOOK.api("gpt-4o"), fixed)
    drawn = monte_carlo(made, D(1_000_000), draws=3)
    safe = break_even(self_hosted(made), hosted_bill(made)).safe
    assert safe is not None
    assert set(drawn.safe) == {float(safe)}


def test_a_tornado_moves_one_input_at_a_time_and_says_where_it_ends() -> None:
    made = scenario(model="gpt-4o")
    bars = tornado(made, D(1_000_000))
    widths = [bar.width_usd for bar in bars]
    assert widths == sorted(widths, reverse=True)
    assert "hours_per_day" not in {bar.name for bar in bars}, "chosen, not uncertain"
    for bar in bars[:5]:
        moved = with_values(made, {bar.name: bar.high})
        saved = hosted_bill(moved).usd(D(1_000_000)) - self_hosted(moved).usd(D(1_000_000))
        assert saved == bar.saved_at_high_usd


def test_bootstraps_hold_the_mean_and_blocks_are_wider_for_a_drifting_series() -> None:
    random = np.random.default_rng(0)
    noise = random.normal(5, 1, 600)
    drift = 5 + np.repeat(random.normal(0, 1, 20), 30)
    times = list(range(600))

    def mean(values: np.typing.NDArray[np.float64]) -> float:
        return float(values.mean())

    plain = bootstrap(noise.tolist(), mean, draws=300)
    assert plain.low < 5 < plain.high
    naive, blocks = bootstrap(drift.tolist(), mean, draws=300), block_bootstrap(times, drift.tolist(), mean, draws=300)
    assert blocks.high - blocks.low > 2 * (naive.high - naive.low)
    with pytest.raises(ModelError, match="measure longer"):
        block_bootstrap([1, 2], [1, 2], mean)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"abstain_share": "1"}, "abstain_share is 1"),
        ({"peak_to_mean": "0.5"}, "peak_to_mean is 0.5"),
        ({"fte": "-1"}, "fte is -1"),
        ({"hours_per_day": "25"}, "hours_per_day is 25"),
        ({"api_batch_share": "1.1"}, "api_batch_share is 1.1"),
        ({"nonsense": "1"}, "nonsense is no figure"),
    ],
)
def test_impossible_inputs_are_refused_by_name(values: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        scenario(values)


def test_a_figure_keeps_its_bounds_and_a_bare_assumption_gets_a_quarter() -> None:
    assert figure("8").bounds() == (6, 10)
    assert Figure(D(8), "quoted", "a list").bounds() == (8, 8)
    assert Figure(D(8), "quoted", "a list").swing() == (6, 10)
    for low, high in (("9", "10"), ("1", "2")):
        with pytest.raises(ModelError, match="low <= value <= high"):
            figure("8", low, high)
