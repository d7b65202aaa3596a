"""How many replicas a volume needs (formula 3) and how many GPU-hours are billed for them (formula 4)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, get_args

from benchmarks.errors import ModelError

Billing = Literal["second", "hour", "month"]
BILLINGS: tuple[Billing, ...] = get_args(Billing)

SECONDS_PER_HOUR = Decimal(3600)
# 365 days of 24 hours in 12 months.
HOURS_PER_MONTH = Decimal(730)
# Decimal division leaves 2.999...9 or 3.000...1 where the quotient is 3: a replica more or less.
_ROUNDING = Decimal("1e-12")
_HUGE = Decimal("1e12")


@dataclass(frozen=True, slots=True)
class Schedule:
    """When the service is up. 24 hours a day is 730 hours a month and never stops; less stops every day."""

    hours_per_day: Decimal = Decimal(24)
    days_per_month: Decimal = HOURS_PER_MONTH / 24

    @property
    def hours_per_month(self) -> Decimal:
        """Hours up."""
        return HOURS_PER_MONTH if self.always_on else self.hours_per_day * self.days_per_month

    @property
    def always_on(self) -> bool:
        """Never stopped."""
        return self.hours_per_day == 24

    @property
    def starts_per_month(self) -> Decimal:
        """Cold starts of each replica."""
        return Decimal(0) if self.always_on else self.days_per_month


ALWAYS_ON = Schedule()


def ceil(quotient: Decimal) -> int:
    """The next whole number, forgiving the rounding of a division; a huge quotient is rounded already."""
    return math.ceil(quotient.quantize(_ROUNDING) if quotient < _HUGE else quotient)


def queries_per_s(volume: Decimal, schedule: Schedule) -> Decimal:
    """Mean arrival rate while the service is up, of `volume` queries a month."""
    return volume / (schedule.hours_per_month * SECONDS_PER_HOUR)


def replicas(
    mean_queries_per_s: Decimal,
    replica_queries_per_s: Decimal,
    peak_to_mean: Decimal = Decimal(1),
    min_replicas: int = 1,
    spares: int = 0,
) -> int:
    """Replicas that carry the peak within the objectives, plus spares that carry nothing."""
    if replica_queries_per_s <= 0:
        raise ModelError("a replica must sustain more than zero queries per second within its objectives")
    return max(min_replicas, ceil(mean_queries_per_s * peak_to_mean / replica_queries_per_s)) + spares


def billed_hours(run_hours: Decimal, starts: Decimal, cold_start_s: Decimal, billing: Billing) -> Decimal:
    """Hours billed for one GPU that ran `run_hours` in a month, after `starts` cold starts.

    By the second and by the hour, each run is rounded up by itself; a monthly reservation costs all of the month.
    """
    if billing == "month":
        return HOURS_PER_MONTH
    runs = max(starts, Decimal(1))
    per_run = run_hours / runs + (cold_start_s / SECONDS_PER_HOUR if starts else Decimal(0))
    unit = Decimal(1) if billing == "hour" else 1 / SECONDS_PER_HOUR
    return runs * unit * ceil(per_run / unit)


@dataclass(frozen=True, slots=True)
class Run:
    """`replicas` of a fleet that ran for `hours`, of which `starts` were started for it."""

    replicas: int
    hours: Decimal
    starts: int = 0


def gpu_hours(
    runs: Iterable[Run], cold_start_s: Decimal, billing: Billing, gpus_per_replica: Decimal = Decimal(1)
) -> Decimal:
    """GPU-hours of a fleet as it was: replicas times hours, plus the cold starts, rounded up once in total.

    A reservation is for the largest number that ever ran.
    """
    seen = list(runs)
    if billing == "month":
        return gpus_per_replica * HOURS_PER_MONTH * max((run.replicas for run in seen), default=0)
    started = sum(run.starts for run in seen) * cold_start_s / SECONDS_PER_HOUR
    hours = sum((run.replicas * run.hours for run in seen), Decimal(0)) + started
    unit = Decimal(1) if billing == "hour" else 1 / SECONDS_PER_HOUR
    return gpus_per_replica * unit * ceil(hours / unit)
