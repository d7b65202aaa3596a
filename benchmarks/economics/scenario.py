"""Everything the model needs to know, as figures that say how they are known.

Each field's name carries its unit; shares are 0 to 1. docs/economics.md describes every field.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal

from benchmarks.economics.demand import ServiceDemand, saturation_queries_per_s
from benchmarks.economics.figures import Figure
from benchmarks.economics.fleet import BILLINGS, Billing, Schedule
from benchmarks.errors import ModelError

_NEARLY_ALL = Decimal("0.999999")
_LIMITS = {
    "peak_to_mean": (Decimal(1), Decimal("Infinity")),
    "hours_per_day": (Decimal("0.01"), Decimal(24)),
    "days_per_month": (Decimal("0.01"), Decimal(31)),
    "abstain_share": (Decimal(0), _NEARLY_ALL),
    # Below zero: volumes that shrink, prices that rise.
    "growth_per_month": (-_NEARLY_ALL, Decimal("Infinity")),
    "api_price_decline_per_year": (Decimal(-10), _NEARLY_ALL),
    "gpu_price_decline_per_year": (Decimal(-10), _NEARLY_ALL),
}


@dataclass(frozen=True, slots=True)
class Workload:
    """What is asked, and when."""

    prompt_tokens: Figure
    output_tokens: Figure
    abstain_share: Figure
    hours_per_day: Figure
    days_per_month: Figure
    peak_to_mean: Figure

    @property
    def schedule(self) -> Schedule:
        """When the service is up."""
        return Schedule(self.hours_per_day.value, self.days_per_month.value)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What one replica sustains within its objectives: measured as a rate, or from its service demand (all three).

    `max_utilisation` multiplies either: 1 for a rate measured within the objectives.
    """

    max_utilisation: Figure
    adapter_factor: Figure
    prefix_hit_share: Figure
    queries_per_minute: Figure | None = None
    base_gpu_s: Figure | None = None
    prefill_gpu_s_per_token: Figure | None = None
    decode_gpu_s_per_token: Figure | None = None

    def queries_per_s(self, workload: Workload) -> Decimal:
        """Answered queries per second of one replica. ModelError when neither a rate nor a demand is known."""
        if self.queries_per_minute is not None:
            return self.queries_per_minute.value * self.max_utilisation.value / 60
        demand = self.demand()
        if demand is None:
            raise ModelError("give queries_per_minute, or all of base_gpu_s, prefill_ and decode_gpu_s_per_token")
        gpu_s = demand.gpu_s(workload.prompt_tokens.value, workload.output_tokens.value, self.prefix_hit_share.value)
        return saturation_queries_per_s(gpu_s) * self.max_utilisation.value

    def demand(self) -> ServiceDemand | None:
        """The service demand, if it is known."""
        if self.base_gpu_s is None or self.prefill_gpu_s_per_token is None or self.decode_gpu_s_per_token is None:
            return None
        return ServiceDemand(
            self.base_gpu_s.value,
            self.prefill_gpu_s_per_token.value,
            self.decode_gpu_s_per_token.value,
            self.adapter_factor.value,
        )


@dataclass(frozen=True, slots=True)
class Machines:
    """What is rented."""

    usd_per_gpu_hour: Figure
    gpus_per_replica: Figure
    cold_start_s: Figure


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What self-hosting costs besides its machines. `setup_usd` is paid once."""

    fixed_usd_per_month: Figure
    self_usd_per_query: Figure
    fte: Figure
    wage_usd_per_year: Figure
    labour_overhead: Figure
    retrains_per_month: Figure
    train_gpu_hours: Figure
    eval_usd: Figure
    retrain_labour_hours: Figure
    setup_usd: Figure


@dataclass(frozen=True, slots=True)
class HostedModel:
    """A hosted model's prices and terms."""

    api_input_usd_per_mtok: Figure
    api_cached_input_usd_per_mtok: Figure
    api_output_usd_per_mtok: Figure
    tokenizer_ratio: Figure
    api_cached_share: Figure
    api_batch_share: Figure
    api_batch_discount: Figure
    api_fees_usd_per_query: Figure
    api_usd_per_month: Figure


@dataclass(frozen=True, slots=True)
class Outlook:
    """How the months ahead differ from this one."""

    growth_per_month: Figure
    api_price_decline_per_year: Figure
    gpu_price_decline_per_year: Figure


@dataclass(frozen=True, slots=True)
class Choices:
    """What is decided rather than known. `hosted_model` is a row of the price file.

    `hourly_load`, relative, one number per hour of service, replaces `peak_to_mean`; with `follow_load` replicas start
    and stop with it, otherwise the peak's fleet stays up.
    """

    hosted_model: str = ""
    billing: Billing = "second"
    min_replicas: int = 1
    spares: int = 0
    hourly_load: tuple[Decimal, ...] = ()
    follow_load: bool = False

    def __post_init__(self) -> None:
        if self.billing not in BILLINGS:
            raise ModelError(f"billing {self.billing!r} must be one of {', '.join(BILLINGS)}")
        if self.min_replicas < 0 or self.spares < 0:
            raise ModelError("min_replicas and spares cannot be negative")


@dataclass(frozen=True, slots=True)
class Scenario:
    """All of it."""

    workload: Workload
    capacity: Capacity
    machines: Machines
    upkeep: Upkeep
    hosted: HostedModel
    outlook: Outlook
    choices: Choices = Choices()

    def __post_init__(self) -> None:
        for name, figure in figures(self).items():
            least, most = limits(name)
            if not least <= figure.value <= most:
                raise ModelError(f"{name} is {figure.value}; it lies between {least} and {most}")


def limits(name: str) -> tuple[Decimal, Decimal]:
    """What a figure cannot leave, whatever its range says."""
    if name in _LIMITS:
        return _LIMITS[name]
    return Decimal(0), Decimal(1) if name.endswith(("_share", "_discount", "_utilisation")) else Decimal("Infinity")


def figures(scenario: Scenario) -> dict[str, Figure]:
    """Every figure by its field's name."""
    groups = (getattr(scenario, group.name) for group in fields(scenario))
    named = ((field.name, getattr(group, field.name)) for group in groups for field in fields(group))
    return {name: value for name, value in named if isinstance(value, Figure)}


def with_values(scenario: Scenario, values: Mapping[str, Decimal]) -> Scenario:
    """The scenario with some figures at other values, such as a draw's; how they are known stays as it was."""
    groups = {}
    for group in fields(scenario):
        held = getattr(scenario, group.name)
        changed = {field.name: _at(getattr(held, field.name), values[field.name]) for field in fields(held)
                   if field.name in values}  # fmt: skip
        if changed:
            groups[group.name] = replace(held, **changed)
    return replace(scenario, **groups)


def _at(figure: Figure, value: Decimal) -> Figure:
    return Figure(value, figure.kind, figure.source)
