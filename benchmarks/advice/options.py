"""What can be built, and what each costs over 24 months: four designs, each on a hosted model or self-hosted.

All money is the economic model's (benchmarks/economics); what a design changes in its scenario is said here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from functools import lru_cache
from itertools import accumulate
from typing import Literal

from benchmarks.advice.needs import Needs
from benchmarks.advice.terms import Terms
from benchmarks.economics.answer import HORIZON_MONTHS
from benchmarks.economics.bills import hosted_bill, self_hosted
from benchmarks.economics.break_even import BreakEven, break_even
from benchmarks.economics.costs import HOURS_PER_WORK_YEAR, hourly_wage_usd, retrain_usd
from benchmarks.economics.figures import Figure
from benchmarks.economics.horizon import Month, Trends, months_ahead
from benchmarks.economics.hosted import HostedBill
from benchmarks.economics.scenario import Scenario
from benchmarks.economics.staircase import Staircase

Design = Literal["RAG", "fine-tune", "both", "prompt"]
DESIGNS: tuple[Design, ...] = ("RAG", "fine-tune", "both", "prompt")
_RETRIEVES: tuple[Design, ...] = ("RAG", "both")
_TUNES: tuple[Design, ...] = ("fine-tune", "both")
_ZERO = Decimal(0)


def retrieves(design: Design) -> bool:
    """Whether it looks passages up."""
    return design in _RETRIEVES


def tunes(design: Design) -> bool:
    """Whether it trains an adapter."""
    return design in _TUNES


@dataclass(frozen=True, slots=True)
class Option:
    """A design in one place. `months` are its bills, USD, the first at today's volume; `people` full-time.

    `first_token_ms` is an estimate from assumptions: nothing here was measured.
    """

    design: Design
    own: bool
    setup_usd: Decimal
    months: tuple[Decimal, ...]
    first_token_ms: Decimal
    people: Decimal

    @property
    def total_usd(self) -> Decimal:
        """Set-up and all months."""
        return self.setup_usd + sum(self.months, _ZERO)

    @property
    def usd_per_month(self) -> Decimal:
        """Mean over the months, set-up spread over them."""
        return self.total_usd / len(self.months)

    def spent_usd(self) -> tuple[Decimal, ...]:
        """The sum spent by the end of each month."""
        return tuple(accumulate(self.months, initial=self.setup_usd))[1:]


@dataclass(frozen=True, slots=True)
class Pair:
    """A design in both places, with the set of volumes at which self-hosting it pays at today's prices.

    `per_query_usd` is what the hosted model asks.
    """

    scenario: Scenario
    where: BreakEven
    per_query_usd: Decimal
    own: Option
    hosted: Option
    volumes: tuple[Decimal, ...]

    @property
    def own_pays(self) -> bool:
        """Self-hosting costs no more over the whole horizon, and the model knows a month's volume at which it pays."""
        return self.own.total_usd <= self.hosted.total_usd and any(map(self.where.pays, self.volumes))

    @property
    def mean_volume(self) -> Decimal:
        """Queries a month, over the horizon."""
        return sum(self.volumes, _ZERO) / len(self.volumes)


def pairs(terms: Terms, needs: Needs) -> Mapping[Design, Pair]:
    """Every design with its costs, for these needs."""
    upkeep = terms.given["adapter_retrains_per_month"].value
    # An adapter that holds facts is trained again whenever they change.
    facts = max(upkeep, needs.updates_per_month) if needs.knowledge else upkeep
    retrains: Mapping[Design, Decimal] = {"RAG": _ZERO, "fine-tune": facts, "both": upkeep, "prompt": _ZERO}
    return {design: _pair(terms, design, needs.volume, needs.growth_per_month, retrains[design]) for design in DESIGNS}


@lru_cache(maxsize=4096)
def _pair(terms: Terms, design: Design, volume: Decimal, growth: Decimal, retrains: Decimal) -> Pair:
    scenario, own, hosted, where = _priced(terms, design, retrains)
    outlook = scenario.outlook
    trends = Trends(growth, outlook.api_price_decline_per_year.value, outlook.gpu_price_decline_per_year.value)
    months = months_ahead(own, hosted, volume, HORIZON_MONTHS, trends)
    return Pair(
        scenario,
        where,
        hosted.usd_per_query,
        _option(terms, scenario, design, months, own=True),
        _option(terms, scenario, design, months, own=False),
        tuple(month.volume for month in months),
    )


@lru_cache(maxsize=512)
def _priced(terms: Terms, design: Design, retrains: Decimal) -> tuple[Scenario, Staircase, HostedBill, BreakEven]:
    scenario = scenario_for(terms, design, retrains)
    own, hosted = self_hosted(scenario), hosted_bill(scenario)
    return scenario, own, hosted, break_even(own, hosted)


def scenario_for(terms: Terms, design: Design, retrains: Decimal) -> Scenario:
    """The scenario of a design: its prompt, the price of its tokens, its monthly costs, how often it is retrained."""
    base, given = terms.scenario, terms.given
    hosted, upkeep = base.hosted, base.upkeep
    moved: dict[str, Figure] = {}
    if not retrieves(design):
        tokens = base.workload.prompt_tokens.value - given["context_tokens"].value
        moved["prompt_tokens"] = _fixed(tokens, "modelled", "the prompt without passages")
    monthly = hosted.api_usd_per_month.value if retrieves(design) else _ZERO
    if tunes(design):
        hourly = hourly_wage_usd(upkeep.wage_usd_per_year.value) * upkeep.labour_overhead.value
        monthly += retrains * retrain_usd(
            _ZERO, _ZERO, upkeep.eval_usd.value, upkeep.retrain_labour_hours.value, hourly
        )
        moved["retrains_per_month"] = _fixed(retrains, "modelled", "from the design and how often the data change")
        moved |= {name: _scaled(getattr(hosted, name), given["tuned_price_multiple"]) for name in _TOKEN_PRICES}
    if monthly != hosted.api_usd_per_month.value:
        moved["api_usd_per_month"] = Figure(monthly, "modelled", "vector database and hosted retrainings, where needed")
    return _with_figures(base, moved)


_TOKEN_PRICES = ("api_input_usd_per_mtok", "api_cached_input_usd_per_mtok", "api_output_usd_per_mtok")


def _fixed(value: Decimal, kind: Literal["modelled"], source: str) -> Figure:
    return Figure(value, kind, source, value, value)


def _scaled(price: Figure, multiple: Figure) -> Figure:
    (low, high), (least, most) = price.bounds(), multiple.bounds()
    low, high = low * least, high * most
    source = f"{price.source}; times {multiple.value:f}, what tuned tokens cost ({multiple.kind})"
    if low == high:
        return Figure(price.value * multiple.value, "modelled", source, as_of=price.as_of)
    return Figure(price.value * multiple.value, "modelled", source, low, high, price.as_of)


def _with_figures(scenario: Scenario, moved: Mapping[str, Figure]) -> Scenario:
    groups = {}
    for group in fields(scenario):
        held = getattr(scenario, group.name)
        changed = {field.name: moved[field.name] for field in fields(held) if field.name in moved}
        if changed:
            groups[group.name] = replace(held, **changed)
    return replace(scenario, **groups)


def _option(terms: Terms, scenario: Scenario, design: Design, months: tuple[Month, ...], *, own: bool) -> Option:
    given, upkeep = terms.given, scenario.upkeep
    setups = int(retrieves(design)) + int(own)
    setup = setups * upkeep.setup_usd.value + (given["tuning_setup_usd"].value if tunes(design) else _ZERO)
    first = given["own_first_token_ms" if own else "hosted_first_token_ms"].value
    hours_a_month = HOURS_PER_WORK_YEAR / 12
    people = upkeep.retrains_per_month.value * upkeep.retrain_labour_hours.value / hours_a_month
    return Option(
        design,
        own,
        setup,
        tuple(month.own_usd if own else month.hosted_usd for month in months),
        first + (given["retrieval_ms"].value if retrieves(design) else _ZERO),
        people + (upkeep.fte.value if own else _ZERO),
    )
