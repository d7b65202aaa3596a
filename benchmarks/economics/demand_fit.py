"""Service demand from measurements: non-negative least squares over a grid of query shapes (formula 1).

A busy machine's time per query is fitted as fixed + per computed prompt token + per output token. A decoding step also
reads the weights once for all queries in the batch, so where the grid varies the concurrency, a fourth term divides by
it; without it, a fit at one concurrency says nothing about another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from benchmarks.economics.demand import ServiceDemand
from benchmarks.economics.figures import Figure, bounded
from benchmarks.errors import ModelError

_Array = NDArray[np.float64]
# Below this ratio of singular values two columns say the same thing and their coefficients are arbitrary.
_IDENTIFIABLE = 1e-3


@dataclass(frozen=True, slots=True)
class ShapeRun:
    """One cell of the grid: `gpu_s` is the busy GPU-seconds per query while `concurrency` queries ran at a time.

    `prompt_tokens` are those computed, not those found in the prefix cache.
    """

    prompt_tokens: float
    output_tokens: float
    concurrency: float
    gpu_s: float


@dataclass(frozen=True, slots=True)
class Coefficient:
    """A fitted term with the percentiles 2.5 and 97.5 of its residual bootstrap."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class DemandFit:
    """GPU-seconds per query by shape. `step_gpu_s_per_token` is shared by a batch; None: one concurrency measured.

    `relative_error`: root mean square of (fitted - measured) / measured, over the grid.
    """

    base_gpu_s: Coefficient
    prefill_gpu_s_per_token: Coefficient
    decode_gpu_s_per_token: Coefficient
    step_gpu_s_per_token: Coefficient | None
    relative_error: float
    runs: int
    concurrencies: tuple[float, ...]

    def at(self, concurrency: float) -> ServiceDemand:
        """The demand with `concurrency` queries in the batch. ModelError outside the measured range."""
        low, high = self.concurrencies[0], self.concurrencies[-1]
        if not low <= concurrency <= high:
            raise ModelError(
                f"concurrency {concurrency:g} was not measured (only {low:g} to {high:g}); extend the grid"
            )
        shared = self.step_gpu_s_per_token.value / concurrency if self.step_gpu_s_per_token else 0.0
        decode = self.decode_gpu_s_per_token.value + shared
        return ServiceDemand(
            *(Decimal(repr(value)) for value in (self.base_gpu_s.value, self.prefill_gpu_s_per_token.value, decode))
        )


def fit_demand(runs: Sequence[ShapeRun], draws: int = 500, seed: int = 0) -> DemandFit:
    """Fits the grid, relative errors weighing alike. ModelError names what must vary when the grid cannot tell."""
    if any(run.gpu_s <= 0 or run.concurrency <= 0 for run in runs):
        raise ModelError("GPU-seconds and concurrency of every cell must be above zero")
    concurrencies = tuple(sorted({run.concurrency for run in runs}))
    design = _design(runs, with_steps=len(concurrencies) > 1)
    _check(runs, design)
    weights = 1 / np.array([run.gpu_s for run in runs])
    scaled: _Array = design * weights[:, None]
    target: _Array = np.ones(len(runs))
    best = _solve(scaled, target)
    residuals = target - scaled @ best
    random = np.random.default_rng(seed)
    # A fit of p terms shrinks its residuals by about this much.
    spread = (len(runs) / (len(runs) - design.shape[1])) ** 0.5
    drawn = np.array(
        [_solve(scaled, scaled @ best + spread * random.choice(residuals, len(runs))) for _ in range(draws)]
    )
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    base, prefill, decode, *step = (
        Coefficient(float(a), float(b), float(c)) for a, b, c in zip(best, low, high, strict=True)
    )
    error = float(np.sqrt(np.mean(residuals**2)))
    return DemandFit(base, prefill, decode, step[0] if step else None, error, len(runs), concurrencies)


def demand_figures(fit: DemandFit, concurrency: float, source: str) -> dict[str, Figure]:
    """Figures with `concurrency` queries in the batch; the bounds are those of the terms, taken together."""
    demand = fit.at(concurrency)
    base, prefill, decode = fit.base_gpu_s, fit.prefill_gpu_s_per_token, fit.decode_gpu_s_per_token
    step = fit.step_gpu_s_per_token
    low, high = (step.low / concurrency, step.high / concurrency) if step else (0.0, 0.0)
    joined = float(demand.decode_gpu_s_per_token)
    return {
        "base_gpu_s": bounded(base.low, base.value, base.high, "modelled", source),
        "prefill_gpu_s_per_token": bounded(prefill.low, prefill.value, prefill.high, "modelled", source),
        "decode_gpu_s_per_token": bounded(decode.low + low, joined, decode.high + high, "modelled", source),
    }


def _design(runs: Sequence[ShapeRun], *, with_steps: bool) -> _Array:
    columns = [
        [1.0, run.prompt_tokens, run.output_tokens, *([run.output_tokens / run.concurrency] if with_steps else [])]
        for run in runs
    ]
    return np.array(columns, dtype=float).reshape(len(runs), -1)


def _check(runs: Sequence[ShapeRun], design: _Array) -> None:
    """Refuses a grid that several sets of coefficients fit equally well."""
    if len(runs) <= design.shape[1]:
        raise ModelError(f"{len(runs)} cells cannot identify {design.shape[1]} coefficients; measure more shapes")
    for name in ("prompt_tokens", "output_tokens"):
        if len({getattr(run, name) for run in runs}) < 2:
            raise ModelError(f"the grid holds one value of {name}; vary it, or its cost cannot be told from the base")
    scaled = design / np.linalg.norm(design, axis=0)
    singular = np.linalg.svd(scaled, compute_uv=False)
    if singular[-1] < _IDENTIFIABLE * singular[0]:
        raise ModelError(
            "the grid varies prompt tokens, output tokens and concurrency together, so their costs cannot be told "
            "apart; measure long prompts with short outputs and the reverse, at every concurrency"
        )


def _solve(design: _Array, target: _Array) -> _Array:
    scale = np.linalg.norm(design, axis=0)
    solution, _ = nnls(design / scale, target)
    return np.asarray(solution / scale, dtype=float)
