"""A what-if answer as plain data, for `--json` and for whoever builds on it. Amounts are strings, not floats."""

import dataclasses
from decimal import Context, Decimal
from typing import Any

from benchmarks.economics.answer import Answer, Comparison
from benchmarks.economics.figures import Figure
from benchmarks.economics.sensitivity import Bar
from benchmarks.economics.uncertainty import Quantiles

# Divisions leave 28 digits; nobody needs the last ones.
_PRECISION = Context(prec=15)


def as_document(answer: Answer) -> dict[str, Any]:
    """The answer's figures. Everything outside `inputs` is modelled from these."""
    return {
        "kind": "modelled",
        "volume_queries_per_month": _text(answer.volume),
        "volume_asked_for": answer.asked,
        "self_hosted": {
            "usd_per_query": _text(answer.own_usd_per_query),
            "full_load_usd_per_query": _text(answer.full_load_usd_per_query),
            "usd_per_month": _text(answer.own.usd(answer.volume)),
            "replicas": list(answer.own.replicas(answer.volume)),
            "utilisation": round(float(answer.utilisation), 4),
            "queries_per_minute_per_replica": round(float(answer.capacity_queries_per_s * 60), 4),
        },
        "queue_at_peak": dataclasses.asdict(answer.queue) if answer.queue else None,
        "hosted": [_comparison(answer, one) for one in answer.comparisons],
        "curves": [_curve(answer, at) for at in answer.volumes()],
        "inputs": {name: figure(held) for name, held in answer.inputs.items()},
        "notes": list(answer.notes),
    }


def figure(held: Figure) -> dict[str, Any]:
    """A figure with how it is known."""
    low, high = held.bounds()
    return {
        "value": _text(held.value),
        "kind": held.kind,
        "source": held.source,
        "low": _text(low),
        "high": _text(high),
        "as_of": held.as_of,
    }


def _comparison(answer: Answer, one: Comparison) -> dict[str, Any]:
    draws = one.draws
    return {
        "model": one.model,
        "usd_per_query": _text(one.hosted.usd_per_query),
        "saved_usd_per_month": _text(one.saved_usd),
        "v_first": _text(one.where.first),
        "v_safe": _text(one.where.safe),
        "islands": [[_text(part.low), _text(part.high)] for part in one.where.islands],
        "exact": one.where.exact,
        "never": one.where.never,
        "needed_queries_per_minute_per_replica": _needed(answer, one),
        "needed_api_usd_per_query": _text(one.missing.api_usd_per_query),
        "payback_month": one.payback_month,
        "draws": len(draws.safe),
        "seed": draws.seed,
        "pays_share": draws.pays_share,
        "v_first_quantiles": _quantiles(draws.first_quantiles),
        "v_safe_quantiles": _quantiles(draws.safe_quantiles),
        "saved_usd_p5_p50_p95": [round(bound, 2) for bound in draws.saved_bounds],
        "sensitivity": [_bar(bar) for bar in one.bars],
    }


def _needed(answer: Answer, one: Comparison) -> float | None:
    factor = one.missing.rate_factor
    return None if factor is None else round(float(factor * answer.capacity_queries_per_s * 60), 4)


def _quantiles(found: Quantiles) -> dict[str, Any]:
    return {"p5": found.p5, "p50": found.p50, "p95": found.p95, "never_share": found.never_share}


def _bar(bar: Bar) -> dict[str, Any]:
    return {
        "input": bar.name,
        "kind": bar.figure.kind,
        "low": _text(bar.low),
        "high": _text(bar.high),
        "saved_usd_at_low": _text(bar.saved_at_low_usd),
        "saved_usd_at_high": _text(bar.saved_at_high_usd),
        "v_safe_at_low": _text(bar.safe_at_low),
        "v_safe_at_high": _text(bar.safe_at_high),
    }


def _curve(answer: Answer, at: Decimal) -> dict[str, Any]:
    return {
        "queries_per_month": _text(at),
        "self_hosted_usd": _text(answer.own.usd(at)),
        "hosted_usd": {one.model: _text(one.hosted.usd(at)) for one in answer.comparisons},
    }


def _text(number: Decimal | None) -> str | None:
    return None if number is None else format(number.normalize(_PRECISION), "f")
