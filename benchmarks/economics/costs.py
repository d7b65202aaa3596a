"""Money besides the machine's time: people, retraining (formula 5), and costs per useful answer (8 and 11)."""

import math
from dataclasses import dataclass
from decimal import Decimal

from benchmarks.errors import ModelError

HOURS_PER_WORK_YEAR = Decimal(2080)
_MONTHS_PER_YEAR = Decimal(12)


def hourly_wage_usd(wage_usd_per_year: Decimal) -> Decimal:
    """Of 40 hours in 52 weeks, without overhead."""
    return wage_usd_per_year / HOURS_PER_WORK_YEAR


def people_usd_per_month(fte: Decimal, wage_usd_per_year: Decimal, overhead: Decimal) -> Decimal:
    """`fte` full-time people; `overhead` multiplies the wage for everything an employer pays on top (1.3: 30 %)."""
    return fte * wage_usd_per_year * overhead / _MONTHS_PER_YEAR


def retrain_usd(
    train_gpu_hours: Decimal,
    usd_per_gpu_hour: Decimal,
    eval_usd: Decimal,
    labour_hours: Decimal,
    usd_per_labour_hour: Decimal,
) -> Decimal:
    """One retraining: GPU time, evaluation, labour."""
    return train_gpu_hours * usd_per_gpu_hour + eval_usd + labour_hours * usd_per_labour_hour


def retraining_usd_per_month(retrains_per_month: Decimal, usd_per_retrain: Decimal) -> Decimal:
    """The retraining tax: what keeping an adapter up to date costs a month."""
    return retrains_per_month * usd_per_retrain


def stale_share(half_life_months: Decimal, months: Decimal) -> float:
    """Share of the data that has changed after `months`, when half of it changes in `half_life_months`."""
    return 1.0 - math.pow(0.5, float(months / half_life_months))


@dataclass(frozen=True, slots=True)
class QueryCost:
    """Per query, in USD. Allocation is what was paid, idle included; usage is the busy share of it, never alone."""

    allocation_usd: Decimal
    usage_usd: Decimal


def query_cost(bill_usd: Decimal, busy_share: Decimal, queries: Decimal) -> QueryCost:
    """A machine bill spread over the queries it served."""
    if queries <= 0:
        raise ModelError("no query was served: there is nothing to spread the bill over")
    return QueryCost(bill_usd / queries, bill_usd * busy_share / queries)


def usd_per_answered(usd_per_query: Decimal, abstain_share: Decimal) -> Decimal:
    """Cost of a query that was answered rather than declined."""
    if not 0 <= abstain_share < 1:
        raise ModelError("the abstained share must be at least 0 and below 1")
    return usd_per_query / (1 - abstain_share)


def usd_per_correct(usd_per_query: Decimal, correct_share: Decimal) -> Decimal:
    """Cost of a correct answer."""
    if not 0 < correct_share <= 1:
        raise ModelError("the correct share must be above 0 and at most 1")
    return usd_per_query / correct_share
