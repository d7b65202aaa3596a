"""Every worked anchor of the reference page, each by its name, and the sums that the documents' claims hang on."""

from decimal import Decimal

import pytest

from benchmarks.economics.break_even import break_even, required_queries_per_minute
from benchmarks.economics.costs import hourly_wage_usd, people_usd_per_month, retrain_usd, stale_share
from benchmarks.economics.fleet import ALWAYS_ON, Schedule, billed_hours, queries_per_s, replicas
from benchmarks.economics.horizon import payback_months
from benchmarks.economics.hosted import HostedBill, QueryShape, TokenRates, query_usd
from benchmarks.economics.staircase import Staircase, Step
from benchmarks.economics.tuning import Strategy, context_threshold_tokens, crossover_volume, token_usd
from benchmarks.prices import load_prices

D = Decimal
A10G_USD_PER_HOUR = D("1.50")
RATE = D(30) / 60  # 30 requests a minute
OFFICE = Schedule(D(8), D(30))
W0 = QueryShape(D(1400), D(250))
RATES = {
    "gpt-4o-mini": TokenRates(D("0.15"), D("0.075"), D("0.60")),
    "claude-3-5-haiku": TokenRates(D("0.80"), D("0.08"), D("4")),
    "gpt-4o": TokenRates(D("2.50"), D("1.25"), D("10")),
}


def a10g(schedule: Schedule, rate: Decimal = RATE) -> Staircase:
    """One step of the documents' machine, at full load and without anything else to pay."""
    hours = billed_hours(schedule.hours_per_month, schedule.starts_per_month, D(0), "second")
    return Staircase((Step(rate * 3600 * schedule.hours_per_month, A10G_USD_PER_HOUR * hours),))


def rounded(value: Decimal | None, digits: str) -> Decimal:
    assert value is not None
    return value.quantize(D(digits))


def test_anchor_a10g_cost_per_query_at_full_load() -> None:
    assert rounded(a10g(OFFICE).slope_usd, "1e-6") == D("0.000833")
    assert rounded(a10g(ALWAYS_ON).slope_usd, "1e-6") == D("0.000833")


def test_anchor_a10g_eight_hours_for_thirty_days() -> None:
    step = a10g(OFFICE).steps[0]
    assert (step.queries_per_month, step.usd_per_month) == (432_000, 360)


def test_anchor_a10g_always_on_is_730_hours() -> None:
    step = a10g(ALWAYS_ON).steps[0]
    assert (step.queries_per_month, step.usd_per_month) == (1_314_000, 1_095)


@pytest.mark.parametrize(
    ("model", "usd"), [("gpt-4o-mini", "0.00036"), ("claude-3-5-haiku", "0.00212"), ("gpt-4o", "0.0060")]
)
def test_anchor_reference_workload_at_hosted_models(model: str, usd: str) -> None:
    assert query_usd(W0, RATES[model]) == D(usd)
    price = load_prices().api(model)
    shipped = TokenRates(price.input_usd_per_mtok, price.cached_input_usd_per_mtok, price.output_usd_per_mtok)
    assert shipped == RATES[model]


def test_anchor_one_a10g_against_gpt_4o_mini_needs_231_percent_of_itself() -> None:
    own, hosted = a10g(OFFICE), HostedBill(D("0.00036"))
    needed = own.usd(D(1)) / hosted.usd_per_query
    assert needed == 1_000_000
    assert rounded(100 * needed / own.steps[0].queries_per_month, "1") == 231
    assert break_even(own, hosted).never


def test_anchor_required_rate_against_gpt_4o_mini() -> None:
    assert rounded(required_queries_per_minute(A10G_USD_PER_HOUR, D("0.00036")), "1") == 69


@pytest.mark.parametrize(("schedule", "gpus", "usd"), [(OFFICE, 24, 8_640), (ALWAYS_ON, 8, 8_760)])
def test_anchor_ten_million_at_full_load(schedule: Schedule, gpus: int, usd: int) -> None:
    volume = D(10_000_000)
    assert replicas(queries_per_s(volume, schedule), RATE) == gpus
    assert a10g(schedule).replicas(volume) == (gpus,)
    assert a10g(schedule).usd(volume) == usd


def test_anchor_ten_million_with_a_peak_and_room_to_breathe() -> None:
    volume, peak, rho = D(10_000_000), D(2), D("0.7")
    assert replicas(queries_per_s(volume, ALWAYS_ON), RATE * rho, peak) == 22
    assert a10g(ALWAYS_ON, RATE * rho / peak).usd(volume) == 24_090


@pytest.mark.parametrize(("multiple", "tokens"), [("2", 1_200), ("1.5", 600), ("1", 0)])
def test_anchor_context_threshold(multiple: str, tokens: int) -> None:
    threshold = context_threshold_tokens(D(multiple), D(200), D(250), out_to_in_price=D(4))
    assert threshold == tokens
    if multiple == "2":
        assert threshold == 4 * 300  # passages


def test_anchor_hundred_thousand_tokens_are_eighty_cents() -> None:
    usd_per_mtok = D("0.008") * 1000
    assert token_usd(D(100_000), usd_per_mtok) == D("0.80")
    assert token_usd(D(100_000), usd_per_mtok, passes=D(3)) == D("2.40")


def test_claims_people_and_retraining() -> None:
    assert rounded(hourly_wage_usd(D(165_000)), "0.01") == D("79.33")
    assert people_usd_per_month(D(1), D(165_000), D("1.3")) == D("17875")
    assert rounded(retrain_usd(D(0), A10G_USD_PER_HOUR, D(75), D(8), hourly_wage_usd(D(165_000))), "1") == 710
    assert stale_share(half_life_months=D(3), months=D(1)) == pytest.approx(0.206, abs=5e-4)


def test_claim_d50_payback_of_eight_gpus() -> None:
    volume, own = D(10_000_000), a10g(OFFICE)
    bills = {model: volume * query_usd(W0, rates) for model, rates in RATES.items()}
    assert bills == {"gpt-4o-mini": 3_600, "claude-3-5-haiku": 21_200, "gpt-4o": 60_000}
    months = {model: payback_months(own.usd(volume), usd - own.usd(volume)) for model, usd in bills.items()}
    assert months["gpt-4o-mini"] is None
    assert rounded(months["claude-3-5-haiku"], "0.1") == D("0.7")
    assert rounded(months["gpt-4o"], "0.01") == D("0.17")


def test_claim_c16_one_gpu_ties_gpt_4o_at_183_thousand() -> None:
    found = break_even(a10g(ALWAYS_ON), HostedBill(D("0.006")))
    assert found.first == 182_500


@pytest.mark.parametrize(
    ("retrains", "rag_usd", "tuned_usd", "expected"),
    [
        (8, "0.000405", "0.00036", "10.7"),  # GPT-4o mini with 1,500 retrieved tokens, quarterly
        (8, "0.0060", "0.0045", "0.32"),  # GPT-4o, quarterly
        (24, "0.0060", "0.0045", "0.64"),  # and monthly: twice the volume (claim C18)
    ],
)
def test_claims_c17_and_c18_volume_at_which_tuning_pays(
    retrains: int, rag_usd: str, tuned_usd: str, expected: str
) -> None:
    refresh = retrain_usd(D(0), D(0), D(75), D(8), hourly_wage_usd(D(165_000)))
    preparation = 80 * hourly_wage_usd(D(165_000))
    tuned = Strategy(preparation, D(0), D(tuned_usd), retrains=D(retrains), usd_per_retrain=refresh)
    rag = Strategy(D(0), D(20), D(rag_usd))
    crossing = crossover_volume(tuned, rag, months=D(24))
    assert crossing is not None
    assert float(crossing) / 1e6 == pytest.approx(float(expected), rel=0.01)
    assert crossover_volume(tuned, Strategy(D(0), D(20), D(tuned_usd)), months=D(24)) is None
