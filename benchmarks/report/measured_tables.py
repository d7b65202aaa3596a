"""What was measured besides the plots: comparisons side by side, and the service demand with its token prices."""

from decimal import Decimal

from benchmarks.economics.answer import Answer
from benchmarks.economics.demand import token_split
from benchmarks.economics.demand_fit import Coefficient
from benchmarks.economics.uncertainty import Bounds
from benchmarks.experiments.findings import Gap
from benchmarks.report.cases import Case
from benchmarks.report.exhibit import Table, short

_COMPARED = (
    "comparison", "side", "served model", "answers", "first token p50", "whole answer p50", "busy s/query",
    "prompt tokens", "cached",
)  # fmt: skip


def comparisons(case: Case) -> Table:
    """Every side of every comparison: medians with 95 % intervals."""
    return Table(
        _COMPARED,
        tuple(
            (
                step,
                name,
                side.model,
                str(side.answered),
                _time(side.ttft_s),
                _time(side.e2e_s),
                "" if side.busy_gpu_s is None else short(side.busy_gpu_s),
                f"{side.prompt_tokens:.0f}",
                f"{side.cached_share:.0%}",
            )
            for step, sides in case.findings.comparisons.items()
            for name, side in sides.items()
        ),
    )


def freshness(case: Case) -> Table:
    """How long until an answer shows a changed document."""
    found = case.findings.changes
    columns = ("served model", "changes", "shown by an answer", "from the change to the end of that answer")
    rows = () if found is None else ((found.model, str(found.made), str(found.shown), _time(found.seconds)),)
    return Table(columns, rows)


def _time(bounds: Bounds | None) -> str:
    return "" if bounds is None else f"{short(bounds.value)} s ({short(bounds.low)} to {short(bounds.high)})"


def demand(case: Case) -> Table:
    """The fitted terms (formula 1), and what a million tokens cost on a machine that is never idle (formula 7)."""
    fit, answer = case.findings.demand, case.answer
    if isinstance(fit, Gap):
        return Table(("service demand", "machine-seconds", "USD, never idle"), ())
    at = fit.concurrencies[-1]
    usd_per_hour = _hourly(answer)
    split = token_split(fit.at(at), usd_per_hour) if usd_per_hour is not None else None
    usd = (
        ("", "", "")
        if split is None
        else (
            f"${short(split.usd_per_query)} per query",
            f"${short(split.usd_per_mtok_in)} per million",
            f"${short(split.usd_per_mtok_out)} per million",
        )
    )
    rows = [
        ("per query", _seconds(fit.base_gpu_s), usd[0]),
        ("per prompt token", _seconds(fit.prefill_gpu_s_per_token), usd[1]),
        (f"per output token, {at:g} at a time", f"{float(fit.at(at).decode_gpu_s_per_token):.3g}", usd[2]),
    ]
    return Table((f"service demand ({fit.runs} shapes, error {fit.relative_error:.0%})", "machine-seconds",
                  "USD, never idle"), tuple(rows))  # fmt: skip


def _hourly(answer: Answer | Gap) -> Decimal | None:
    return None if isinstance(answer, Gap) else answer.scenario.machines.usd_per_gpu_hour.value


def _seconds(term: Coefficient) -> str:
    return f"{term.value:.3g} ({term.low:.3g} to {term.high:.3g})"
