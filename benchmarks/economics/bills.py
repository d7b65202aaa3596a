"""The two bills that follow from a scenario, each a function of the monthly volume."""

from decimal import Decimal

from benchmarks.economics.costs import hourly_wage_usd, people_usd_per_month, retrain_usd, retraining_usd_per_month
from benchmarks.economics.fleet import SECONDS_PER_HOUR, billed_hours
from benchmarks.economics.hosted import HostedBill, HostedTerms, QueryShape, TokenRates, query_usd
from benchmarks.economics.scenario import Scenario
from benchmarks.economics.staircase import Staircase, Step
from benchmarks.errors import ModelError


def self_hosted(scenario: Scenario) -> Staircase:
    """The self-hosted bill by volume (formulas 3 to 5)."""
    upkeep, machines, choices = scenario.upkeep, scenario.machines, scenario.choices
    hourly = hourly_wage_usd(upkeep.wage_usd_per_year.value) * upkeep.labour_overhead.value
    retrain = retrain_usd(
        upkeep.train_gpu_hours.value,
        machines.usd_per_gpu_hour.value,
        upkeep.eval_usd.value,
        upkeep.retrain_labour_hours.value,
        hourly,
    )
    people = people_usd_per_month(upkeep.fte.value, upkeep.wage_usd_per_year.value, upkeep.labour_overhead.value)
    retraining = retraining_usd_per_month(upkeep.retrains_per_month.value, retrain)
    return Staircase(
        steps=_steps(scenario),
        min_replicas=choices.min_replicas,
        spares=choices.spares,
        fixed_usd_per_month=upkeep.fixed_usd_per_month.value + people + retraining,
        usd_per_query=upkeep.self_usd_per_query.value,
    )


def _steps(scenario: Scenario) -> tuple[Step, ...]:
    workload, machines, choices = scenario.workload, scenario.machines, scenario.choices
    schedule = workload.schedule
    answered = scenario.capacity.queries_per_s(workload) * SECONDS_PER_HOUR * schedule.hours_per_month
    queries = answered / (1 - workload.abstain_share.value)
    usd_per_hour = machines.usd_per_gpu_hour.value * machines.gpus_per_replica.value
    load = _relative(choices.hourly_load, workload.hours_per_day.value)
    if not choices.follow_load:
        hours = billed_hours(
            schedule.hours_per_month, schedule.starts_per_month, machines.cold_start_s.value, choices.billing
        )
        return (Step(queries / peak_to_mean(scenario), usd_per_hour * hours),)
    if not load or choices.billing == "month":
        raise ModelError("follow_load needs hourly_load and a billing by second or hour")
    cold = machines.cold_start_s.value / SECONDS_PER_HOUR
    days = schedule.hours_per_month / len(load)
    before = load[-1] if schedule.always_on else Decimal(0)
    steps = []
    for now in load:
        # As the load rises from one hour to the next, that share of the replicas has just been started.
        started = max(Decimal(0), now - before) / now
        steps.append(Step(queries / now, usd_per_hour * days * (1 + cold * started)))
        before = now
    return tuple(steps)


def peak_to_mean(scenario: Scenario) -> Decimal:
    """Of the hourly load where there is one."""
    load = _relative(scenario.choices.hourly_load, scenario.workload.hours_per_day.value)
    return max(load) if load else scenario.workload.peak_to_mean.value


def _relative(load: tuple[Decimal, ...], hours_per_day: Decimal) -> tuple[Decimal, ...]:
    """The hourly load over its mean; empty without one."""
    if not load:
        return ()
    if len(load) != hours_per_day or min(load) <= 0:
        raise ModelError("hourly_load needs one number above zero for each of the hours_per_day")
    mean = sum(load, Decimal(0)) / len(load)
    return tuple(hour / mean for hour in load)


def hosted_bill(scenario: Scenario) -> HostedBill:
    """The hosted bill by volume (formula 6)."""
    hosted, workload = scenario.hosted, scenario.workload
    shape = QueryShape(workload.prompt_tokens.value, workload.output_tokens.value, hosted.api_cached_share.value)
    rates = TokenRates(
        hosted.api_input_usd_per_mtok.value,
        hosted.api_cached_input_usd_per_mtok.value,
        hosted.api_output_usd_per_mtok.value,
    )
    terms = HostedTerms(
        hosted.tokenizer_ratio.value,
        workload.abstain_share.value,
        hosted.api_batch_share.value,
        hosted.api_batch_discount.value,
        hosted.api_fees_usd_per_query.value,
    )
    return HostedBill(query_usd(shape, rates, terms), hosted.api_usd_per_month.value)
