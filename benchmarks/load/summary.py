"""Metrics of a load run, derived from its raw rows: throughput, latency percentiles, cost per query, goodput.

Latency counts from the time a request was scheduled, not from when it was sent, and covers answered requests only: a
refusal for lack of evidence runs no model and would flatter every percentile.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from typing import Any

from benchmarks.load.plan import Slo
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
class Summary:
    """A run in figures. Rates are per second of `wall_s`, which runs until the last request ended."""

    header: RunHeader
    requests: int
    outcomes: dict[str, int]
    first_error: str | None
    wall_s: float
    answered_per_s: float
    completion_tokens_per_s: float
    mean_prompt_tokens: float | None
    mean_completion_tokens: float | None
    ttft: Percentiles | None
    inter_token: Percentiles | None
    e2e: Percentiles | None
    send_lag: Percentiles | None
    cost: MeanCost | None
    good: int | None  # None without an SLO

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
        return self.send_lag is not None and self.send_lag.p99 > _LAG_TOLERATED_S


def summarise(result: LoadResult) -> Summary:
    """Every metric of a run; those that its rows cannot support are None."""
    rows = result.rows
    answered = [row for row in rows if row.outcome == "answered"]
    completions = [row.completion_tokens for row in answered]
    wall_s = max((row.last_s for row in rows), default=0.0)
    return Summary(
        header=result.header,
        requests=len(rows),
        outcomes=dict(Counter(row.outcome for row in rows).most_common()),
        first_error=_first_error(rows),
        wall_s=wall_s,
        answered_per_s=_per(len(answered), wall_s),
        completion_tokens_per_s=_per(sum(filter(None, completions)), wall_s),
        mean_prompt_tokens=_mean(row.prompt_tokens for row in answered),
        mean_completion_tokens=_mean(completions),
        ttft=Percentiles.of(row.ttft_s for row in answered),
        inter_token=Percentiles.of(_gaps(answered)),
        e2e=Percentiles.of(row.e2e_s for row in answered),
        send_lag=Percentiles.of(row.sent_s - row.scheduled_s for row in rows),
        cost=MeanCost.of(rows),
        good=_good(answered, result.header.slo),
    )


def _first_error(rows: Iterable[RequestRow]) -> str | None:
    return next((f"{row.outcome}: {row.error}" for row in rows if not row.succeeded), None)


def _gaps(rows: Iterable[RequestRow]) -> Iterable[float]:
    return (after - before for row in rows for before, after in pairwise(row.chunks_s))


def _good(rows: Iterable[RequestRow], slo: Slo) -> int | None:
    return sum(_within(row, slo) for row in rows) if slo else None


def _within(row: RequestRow, slo: Slo) -> bool:
    if slo.ttft_s is not None and (row.ttft_s is None or row.ttft_s > slo.ttft_s):
        return False
    return slo.e2e_s is None or row.e2e_s <= slo.e2e_s


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
