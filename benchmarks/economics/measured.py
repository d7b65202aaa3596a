"""Measurements as figures of a scenario: a window of the meter, a sweep's rate. (A fitted demand's are in demand_fit.)

Each keeps its source, and is called modelled where something was inferred from what was measured.
"""

from dataclasses import dataclass
from decimal import Decimal

from benchmarks.economics.defaults import DEMAND_UTILISATION
from benchmarks.economics.figures import Figure, Kind, bounded
from benchmarks.economics.sweep import SloRate
from benchmarks.errors import ModelError


@dataclass(frozen=True, slots=True)
class Observed:
    """Sums over a window of traffic. `abstained` queries are among `queries` and have no tokens."""

    queries: int
    abstained: int
    prompt_tokens: int
    cached_prompt_tokens: int
    output_tokens: int
    busy_gpu_s: float
    billed_gpu_s: float

    @property
    def answered(self) -> int:
        """Queries that the model answered."""
        return self.queries - self.abstained

    @property
    def utilisation(self) -> float:
        """Busy share of the billed time."""
        return self.busy_gpu_s / self.billed_gpu_s if self.billed_gpu_s > 0 else 0.0


def window_figures(seen: Observed, source: str) -> dict[str, Figure]:
    """What a window of traffic says about a scenario. ModelError when nothing was answered in it.

    The rate assumes that a full machine batches as it did in the window. It batches better, so a window of light
    traffic understates what a replica sustains, and the break-even volume that follows is an upper bound.
    """
    if seen.answered <= 0 or seen.busy_gpu_s <= 0:
        raise ModelError("nothing was answered in this window; there is no cost per query to speak of yet")
    rate = 60 * seen.answered / seen.busy_gpu_s
    cached = seen.cached_prompt_tokens / seen.prompt_tokens if seen.prompt_tokens else 0.0
    return {
        "prompt_tokens": _figure(seen.prompt_tokens / seen.answered, "measured", source),
        "output_tokens": _figure(seen.output_tokens / seen.answered, "measured", source),
        "abstain_share": _figure(seen.abstained / seen.queries, "measured", source),
        "queries_per_minute": _figure(rate, "modelled", f"{source}: busy GPU-seconds per answer, batched as there"),
        "max_utilisation": DEMAND_UTILISATION,
        "api_cached_share": _figure(cached, "modelled", f"{source}: a hosted cache that hits where ours did"),
    }


def sweep_figures(rate: SloRate, source: str) -> dict[str, Figure]:
    """The rate of a sweep: a lower bound if the sweep was open-ended, which its source then says."""
    said = f"{source}; at least, since the fastest rate tried kept the objectives" if rate.open_ended else source
    per_minute = 60 * rate.queries_per_s
    if rate.low is None or rate.high is None:
        return {"queries_per_minute": _figure(per_minute, "measured", said)}
    return {"queries_per_minute": bounded(60 * rate.low, per_minute, 60 * rate.high, "measured", said)}


def _figure(value: float, kind: Kind, source: str) -> Figure:
    return Figure(Decimal(repr(value)), kind, source)
