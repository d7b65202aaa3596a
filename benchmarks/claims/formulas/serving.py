"""Self-hosting as the documents describe it: one price per GPU-hour, one rate per GPU, as many GPUs as that takes."""

from collections.abc import Callable, Mapping
from decimal import Decimal

from benchmarks.economics.break_even import required_queries_per_minute
from benchmarks.economics.demand import saturation_queries_per_s
from benchmarks.economics.fleet import SECONDS_PER_HOUR, Schedule, ceil
from benchmarks.economics.horizon import payback_months
from benchmarks.economics.staircase import Staircase, Step

_DAYS_PER_MONTH = Decimal(30)
_INFINITE = Decimal("Infinity")


def _fleet(rate: Decimal, usd_per_hour: Decimal, hours_per_day: Decimal, peak: Decimal) -> Staircase:
    hours = Schedule(hours_per_day, _DAYS_PER_MONTH).hours_per_month
    return Staircase((Step(rate / 60 * SECONDS_PER_HOUR * hours / peak, usd_per_hour * hours),))


def rate_of_demand(gpu_s: Decimal) -> Decimal:
    """Queries a minute of a GPU that one query keeps busy for so many seconds."""
    return 60 * saturation_queries_per_s(gpu_s)


def fleet_usd(
    queries_per_month: Decimal,
    each_queries_per_minute: Decimal,
    usd_per_hour: Decimal,
    hours_per_day: Decimal,
    peak_factor: Decimal,
) -> Decimal:
    """A month's rent of as many GPUs as the volume needs at its peak (30 days; 730 hours when always on)."""
    return _fleet(each_queries_per_minute, usd_per_hour, hours_per_day, peak_factor).usd(queries_per_month)


def fleet_gpus(
    queries_per_month: Decimal, each_queries_per_minute: Decimal, hours_per_day: Decimal, peak_factor: Decimal
) -> Decimal:
    """How many GPUs that is."""
    (count,) = _fleet(each_queries_per_minute, Decimal(1), hours_per_day, peak_factor).replicas(queries_per_month)
    return Decimal(count)


def full_usd_per_query(each_queries_per_minute: Decimal, usd_per_hour: Decimal) -> Decimal:
    """What a query costs on a GPU that is never idle: what no volume gets below."""
    return usd_per_hour / (60 * each_queries_per_minute)


def needed_queries_per_minute(usd_per_hour: Decimal, hosted_usd_per_query: Decimal) -> Decimal:
    """What a GPU must sustain, never idle, to cost no more per query than a hosted model."""
    found = required_queries_per_minute(usd_per_hour, hosted_usd_per_query)
    return _INFINITE if found is None else found


def own_less_hosted_usd(
    queries_per_month: Decimal,
    each_queries_per_minute: Decimal,
    usd_per_hour: Decimal,
    hours_per_day: Decimal,
    peak_factor: Decimal,
    hosted_usd_per_query: Decimal,
    fixed_usd_per_month: Decimal,
) -> Decimal:
    """A month of self-hosting less a month of the hosted model at the same volume."""
    rent = fleet_usd(queries_per_month, each_queries_per_minute, usd_per_hour, hours_per_day, peak_factor)
    return rent + fixed_usd_per_month - queries_per_month * hosted_usd_per_query


def repaid_after_months(
    queries_per_month: Decimal,
    each_queries_per_minute: Decimal,
    usd_per_hour: Decimal,
    hours_per_day: Decimal,
    peak_factor: Decimal,
    hosted_usd_per_query: Decimal,
    outlay_months: Decimal,
    fixed_usd_per_month: Decimal,
) -> Decimal:
    """Months until savings against a hosted model repay an outlay of so many months' rent; infinite when never."""
    fleet = (queries_per_month, each_queries_per_minute, usd_per_hour, hours_per_day, peak_factor)
    saved = -own_less_hosted_usd(*fleet, hosted_usd_per_query, fixed_usd_per_month)
    found = payback_months(outlay_months * fleet_usd(*fleet), saved)
    return _INFINITE if found is None else found


def training_gpus(billion_parameters: Decimal, bytes_per_parameter: Decimal, gpu_gb: Decimal) -> Decimal:
    """GPUs whose memory holds weights, gradients and optimiser state; activations come on top."""
    return Decimal(ceil(billion_parameters * bytes_per_parameter / gpu_gb))


def tenants_per_gpu(gpu_gb: Decimal, shared_gb: Decimal, tenant_gb: Decimal) -> Decimal:
    """Tenants whose weights fit one GPU at once, beside what they share."""
    return ((gpu_gb - shared_gb) / tenant_gb).quantize(Decimal(1), rounding="ROUND_FLOOR")


FORMULAS: Mapping[Callable[..., Decimal], str] = {
    rate_of_demand: "queries/min",
    fleet_usd: "USD/month",
    fleet_gpus: "GPUs",
    full_usd_per_query: "USD/query",
    needed_queries_per_minute: "queries/min",
    own_less_hosted_usd: "USD/month",
    repaid_after_months: "months",
    training_gpus: "GPUs",
    tenants_per_gpu: "1",
}
