"""Metrics of a load run, derived from its raw rows: throughput, latency percentiles, cost per query, goodput.

Latency counts from the time a request was scheduled, not from when it was sent, and covers answered requests only: a
refusal for lack of evidence runs no model and would flatter every percentile.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

from benchmarks.load.counted import Counted
from benchmarks.load.plan import Slo
from benchmarks.load.reconcile import Comparison, compare
from benchmarks.load.record import LoadResult, RequestRow, RunHeader

# Sending later than this after the scheduled time means that the generator, not the server, was the slow part.
_LAG_TOLERATED_S = 0.05


@dataclass(frozen=True)
class Percentiles:
    """Of `count` values in seconds; interpolated linearly between the two nearest."""

    count: int
    p50: float
    p95: float
    p99: float

    @classmethod
    def of(cls, values: Iterable[float | None]) -> "Percentiles | None":
        """Of the values that are there; None when there is none."""
        ordered = sorted(value for value in values if value is not None)
        if not ordered:
            return None
        return cls(len(ordered), *(percentile(ordered, share) for share in (0.50, 0.95, 0.99)))


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of the sorted, non-empty values lie: numpy's default definition."""
    position = share * (len(ordered) - 1)
    below = int(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


@dataclass(frozen=True)
class MeanCost:
    """Per query, over the `count` responses that carried a cost, abstentions among them.

    `label` says how the seconds are known (measured, simulated) and at which price; several if the run saw several.
    """

    count: int
    allocation_usd: Decimal
    usage_usd: Decimal
    hosted_usd: dict[str, Decimal]
    label: str

    @classmethod
    def of(cls, rows: Iterable[RequestRow]) -> "MeanCost | None":
        """None when no response carried a cost."""
        costs = [row.cost for row in rows if row.cost is not None]
        if not costs:
            return None
        hosted: dict[str, list[Decimal]] = {}
        for cost in costs:
            for model, usd in cost.get("hosted_equivalent_usd", {}).items():
                hosted.setdefault(model, []).append(Decimal(usd))
        return cls(
            count=len(costs),
            allocation_usd=_mean_usd([Decimal(cost["allocation_usd"]) for cost in costs]),
            usage_usd=_mean_usd([Decimal(cost["usage_usd"]) for cost in costs]),
            hosted_usd={model: _mean_usd(values) for model, values in hosted.items()},
            label="; ".join(sorted({_cost_label(cost) for cost in costs})),
        )


@dataclass(frozen=True)
class CountedCost:
    """Per query as Prometheus counted it during the run. `bill_usd` is the whole bill of the run divided by its
    queries: idle time that no request has taken a share of yet is in it and nowhere else."""

    queries: float
    allocation_usd: float
    usage_usd: float
    bill_usd: float
    busy_share: float

    @classmethod
    def of(cls, pages: Iterable[Counted]) -> "CountedCost | None":
        """From the gateway's page; None without one, or if it answered nothing."""
        for page in pages:
            outcomes = ("complete", "abstained")
            queries = sum(page.grew("breakeven_requests_total", outcome=outcome) for outcome in outcomes)
            if queries:
                billed = page.grew("breakeven_gpu_seconds_total", state="billed")
                return cls(
                    queries,
                    page.grew("breakeven_cost_usd_total", basis="allocation") / queries,
                    page.grew("breakeven_cost_usd_total", basis="usage") / queries,
                    page.grew("breakeven_bill_usd_total") / queries,
                    page.grew("breakeven_gpu_seconds_total", state="busy") / billed if billed else 0.0,
                )
        return None


@dataclass(frozen=True)
class Part:
    """The requests of one served model or of one tenant."""

    name: str
    requests: int
    answered: int
    ttft: Percentiles | None
    e2e: Percentiles | None


@dataclass(frozen=True)
class Summary:
    """A run in figures. Rates are per second of `wall_s`, which runs until the last request ended.

    `gap` is the time between chunks, `inter_token` each request's mean time between tokens. `lateness` is how long
    after its intended start a request left this machine. `good` is None without objectives.
    """

    header: RunHeader
    requests: int
    outcomes: dict[str, int]
    first_error: str | None
    wall_s: float
    answered_per_s: float
    completion_tokens_per_s: float
    mean_prompt_tokens: float | None
    mean_completion_tokens: float | None
    cached_share: float | None
    ttft: Percentiles | None
    gap: Percentiles | None
    inter_token: Percentiles | None
    e2e: Percentiles | None
    lateness: Percentiles | None
    cost: MeanCost | None
    counted_cost: CountedCost | None
    by_model: tuple[Part, ...]
    by_tenant: tuple[Part, ...]
    good: int | None
    compared: tuple[Comparison, ...]
    errors: tuple[str, ...]

    @property
    def goodput_per_s(self) -> float | None:
        """Answered requests within the SLO, per second."""
        return None if self.good is None else _per(self.good, self.wall_s)

    @property
    def simulated(self) -> bool:
        """No model was behind the answers, by the gateway's own word."""
        return self.cost is not None and "simulated" in self.cost.label

    @property
    def generator_fell_behind(self) -> bool:
        """The figures then measure this machine as much as the endpoint."""
        return self.lateness is not None and self.lateness.p99 > _LAG_TOLERATED_S


def summarise(result: LoadResult) -> Summary:
    """Every metric of a run; those that its rows cannot support are None."""
    rows = result.rows
    answered = [row for row in rows if row.outcome == "answered"]
    wall_s = max((row.last_s for row in rows), default=0.0)
    return Summary(
        header=result.header,
        requests=len(rows),
        outcomes=dict(Counter(row.outcome for row in rows).most_common()),
        first_error=_first_error(rows),
        wall_s=wall_s,
        answered_per_s=_per(len(answered), wall_s),
        completion_tokens_per_s=_per(sum(row.completion_tokens or 0 for row in answered), wall_s),
        mean_prompt_tokens=_mean(row.prompt_tokens for row in answered),
        mean_completion_tokens=_mean(row.completion_tokens for row in answered),
        cached_share=_cached_share(answered),
        ttft=Percentiles.of(row.ttft_s for row in answered),
        gap=Percentiles.of(_gaps(answered)),
        inter_token=Percentiles.of(row.itl_s for row in answered),
        e2e=Percentiles.of(row.e2e_s for row in answered),
        lateness=Percentiles.of(row.sent_s - row.scheduled_s for row in rows),
        cost=MeanCost.of(rows),
        counted_cost=CountedCost.of(result.counted),
        by_model=_parts(rows, lambda row: row.model),
        by_tenant=_parts(rows, lambda row: row.tenant),
        good=sum(within(row, result.header.slo) for row in answered) if result.header.slo else None,
        compared=compare(result),
        errors=result.errors,
    )


def within(row: RequestRow, slo: Slo) -> bool:
    """Whether an answered request kept every objective. One without a first token kept none on it; an answer of a
    single token has no time between tokens to miss."""
    if slo.ttft_s is not None and (row.ttft_s is None or row.ttft_s > slo.ttft_s):
        return False
    if slo.itl_s is not None and row.itl_s is not None and row.itl_s > slo.itl_s:
        return False
    return slo.e2e_s is None or row.e2e_s <= slo.e2e_s


def _parts(rows: Sequence[RequestRow], name_of: Callable[[RequestRow], str | None]) -> tuple[Part, ...]:
    """By name; none if all have the same."""
    groups: dict[str, list[RequestRow]] = {}
    for row in rows:
        groups.setdefault(name_of(row) or "", []).append(row)
    return tuple(_part(name, groups[name]) for name in sorted(groups)) if len(groups) > 1 else ()


def _part(name: str, rows: Sequence[RequestRow]) -> Part:
    answered = [row for row in rows if row.outcome == "answered"]
    ttft, e2e = (row.ttft_s for row in answered), (row.e2e_s for row in answered)
    return Part(name, len(rows), len(answered), Percentiles.of(ttft), Percentiles.of(e2e))


def _first_error(rows: Iterable[RequestRow]) -> str | None:
    return next((f"{row.outcome}: {row.error}" for row in rows if not row.succeeded), None)


def _gaps(rows: Iterable[RequestRow]) -> Iterable[float]:
    return (after - before for row in rows for before, after in pairwise(row.chunks_s))


def _cached_share(rows: Iterable[RequestRow]) -> float | None:
    said = [row for row in rows if row.cached_tokens is not None]
    prompt = sum(row.prompt_tokens or 0 for row in said)
    return sum(row.cached_tokens or 0 for row in said) / prompt if prompt else None


def _per(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _mean(values: Iterable[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _mean_usd(values: Sequence[Decimal]) -> Decimal:
    return sum(values, Decimal(0)) / len(values)


def _cost_label(cost: dict[str, Any]) -> str:
    price = cost.get("price") or {}
    basis = cost.get("basis", "basis not stated")
    return f"{basis}, at ${price.get('usd_per_hour')}/h {price.get('basis', '')}".rstrip() if price else str(basis)
