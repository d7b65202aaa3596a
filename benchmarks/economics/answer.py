"""The answer to a what-if question: does it pay, at what volume, how sure. Data only; terminal.py words it."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from benchmarks.economics.bills import hosted_bill, peak_to_mean, self_hosted
from benchmarks.economics.break_even import BreakEven, Missing, break_even, missing
from benchmarks.economics.figures import Figure
from benchmarks.economics.fleet import queries_per_s
from benchmarks.economics.horizon import Trends, months_ahead, payback_month
from benchmarks.economics.hosted import HostedBill
from benchmarks.economics.question import Question
from benchmarks.economics.queueing import QueueCheck, check
from benchmarks.economics.scenario import Scenario, figures
from benchmarks.economics.sensitivity import Bar, tornado
from benchmarks.economics.staircase import Staircase
from benchmarks.economics.uncertainty import Draws, monte_carlo

# Beyond two years neither prices nor volumes can be believed.
HORIZON_MONTHS = 24
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Self-hosting against one hosted model. `volume` is the one asked for, else one that tells the most."""

    model: str
    hosted: HostedBill
    where: BreakEven
    missing: Missing
    draws: Draws
    bars: tuple[Bar, ...]
    saved_usd: Decimal
    payback_month: int | None


@dataclass(frozen=True, slots=True)
class Answer:
    """All of it. `asked` is false when `volume` was chosen by us.

    `queue` is the fleet at its peak; None when the service time is not known, which a rate within objectives hides.
    """

    scenario: Scenario
    own: Staircase
    capacity_queries_per_s: Decimal
    volume: Decimal
    asked: bool
    comparisons: tuple[Comparison, ...]
    queue: QueueCheck | None
    inputs: dict[str, Figure]
    notes: tuple[str, ...]

    @property
    def own_usd_per_query(self) -> Decimal:
        """Self-hosted cost of a query at the volume, everything included."""
        return self.own.usd(self.volume) / self.volume

    @property
    def utilisation(self) -> Decimal:
        """Share of what the billed machines could serve within the objectives that the volume uses."""
        paid = self.own.machines_usd(self.volume)
        return self.volume * self.full_load_usd_per_query / paid if paid else _ZERO

    @property
    def full_load_usd_per_query(self) -> Decimal:
        """Machine cost of a query if the machines were busy all of the billed time: the usage cost."""
        workload, machines = self.scenario.workload, self.scenario.machines
        usd_per_s = machines.usd_per_gpu_hour.value * machines.gpus_per_replica.value / 3600
        return usd_per_s * (1 - workload.abstain_share.value) / self.capacity_queries_per_s

    def volumes(self) -> tuple[Decimal, ...]:
        """A few volumes for a table: decades around the one asked for and the break-even volumes."""
        marks = {self.volume / 10, self.volume, self.volume * 10}
        for comparison in self.comparisons:
            marks |= {mark for mark in (comparison.where.first, comparison.where.safe) if mark}
        return tuple(sorted(marks))


def answer(question: Question, draws: int = 500, seed: int = 0) -> Answer:
    """Solves the question for each hosted model. The first of them decides which volume is looked at, if none is."""
    first = question.scenarios[0]
    own = self_hosted(first)
    volume = question.volume or _telling_volume(first, own)
    return Answer(
        scenario=first,
        own=own,
        capacity_queries_per_s=first.capacity.queries_per_s(first.workload),
        volume=volume,
        asked=question.volume is not None,
        comparisons=tuple(_compare(scenario, own, volume, draws, seed) for scenario in question.scenarios),
        queue=_queue(first, own, volume),
        inputs=figures(first),
        notes=question.notes,
    )


def _telling_volume(scenario: Scenario, own: Staircase) -> Decimal:
    """Where the first hosted model's answer is decided; else so much that the machines decide, not the people."""
    found = break_even(own, hosted_bill(scenario))
    return found.safe or found.first or 10 * own.full_at


def _queue(scenario: Scenario, own: Staircase, volume: Decimal) -> QueueCheck | None:
    """The largest number of replicas under the peak rate, each query taking its service demand."""
    capacity, workload = scenario.capacity, scenario.workload
    demand = capacity.demand()
    if demand is None:
        return None
    gpu_s = demand.gpu_s(workload.prompt_tokens.value, workload.output_tokens.value, capacity.prefix_hit_share.value)
    peak = peak_to_mean(scenario) * queries_per_s(volume, workload.schedule) * (1 - workload.abstain_share.value)
    return check(max(own.replicas(volume)), float(peak), float(gpu_s))


def _compare(scenario: Scenario, own: Staircase, volume: Decimal, draws: int, seed: int) -> Comparison:
    hosted = hosted_bill(scenario)
    ahead = months_ahead(own, hosted, volume, HORIZON_MONTHS, trends_of(scenario))
    return Comparison(
        model=scenario.choices.hosted_model,
        hosted=hosted,
        where=break_even(own, hosted),
        missing=missing(own, hosted),
        draws=monte_carlo(scenario, volume, draws, seed),
        bars=tornado(scenario, volume),
        saved_usd=hosted.usd(volume) - own.usd(volume),
        payback_month=payback_month(ahead, scenario.upkeep.setup_usd.value),
    )


def trends_of(scenario: Scenario) -> Trends:
    """How the months ahead differ."""
    outlook = scenario.outlook
    return Trends(
        outlook.growth_per_month.value,
        outlook.api_price_decline_per_year.value,
        outlook.gpu_price_decline_per_year.value,
    )


def assumed_inputs(inputs: dict[str, Figure], bars: Sequence[Bar]) -> tuple[str, ...]:
    """Inputs that are assumed and matter: those that move the saving, strongest first."""
    return tuple(bar.name for bar in bars if inputs[bar.name].kind == "assumed")
