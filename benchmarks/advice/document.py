"""Advice as plain data, for `--json`. Amounts are strings, not floats; every number says how it is known."""

from decimal import Context, Decimal
from typing import Any

from benchmarks.advice.advice import Advice
from benchmarks.advice.flips import Flip, Key
from benchmarks.advice.needs import Value
from benchmarks.advice.options import Option, Pair
from benchmarks.advice.rules import Opinion
from benchmarks.advice.terminal import headline
from benchmarks.claims.wording import conflict_text
from benchmarks.economics.document import figure
from benchmarks.economics.scenario import figures

_PRECISION = Context(prec=15)


def as_document(advice: Advice) -> dict[str, Any]:
    """The advice. What carries no kind of its own is modelled."""
    sure, why = advice.certainty, advice.decision.why
    return {
        "kind": "modelled",
        "headline": headline(advice),
        "answer": _key(advice.decision.key),
        "why": {"retrieval": why.retrieval, "tuning": why.tuning, "hosting": why.hosting},
        "warnings": list(advice.decision.warnings),
        "confidence": {
            "grade": sure.grade,
            "draws_agreeing": round(sure.agreeing, 4),
            "draws": sure.draws,
            "v_safe_p5_p50_p95": [sure.safe.p5, sure.safe.p50, sure.safe.p95],
            "doubts": list(sure.doubts),
        },
        "hosted_model": advice.terms.hosted_model,
        "needs": {
            name: {
                "value": _value(advice.needs.value(name)),
                "kind": origin.kind,
                "source": origin.source,
                "given": origin.given,
            }
            for name, origin in advice.origins.items()
        },
        "designs": {design: _pair(pair) for design, pair in advice.costs.items()},
        "tuning_cheaper_than_rag_from": None if advice.crossing is None else _text(advice.crossing),
        "flips": [_flip(flip) for flip in advice.flips],
        "money_hangs_on": [
            {"input": bar.name, "kind": bar.figure.kind, "low": _text(bar.low), "high": _text(bar.high),
             "saved_usd_per_month": [_text(bar.saved_at_low_usd), _text(bar.saved_at_high_usd)]}
            for bar in advice.bars
        ],
        "rules": [_opinion(one) for one in advice.opinions],
        "rules_silent": advice.silent,
        "contradictions": [
            {"question": one.group.question, "text": conflict_text(one), "kind": "quoted"} for one in advice.conflicts
        ],
        "assumptions": {name: figure(held) for name, held in advice.terms.given.items()},
        "inputs": {name: figure(held) for name, held in figures(advice.decision.pair.scenario).items()},
        "notes": list(advice.terms.notes),
    }  # fmt: skip


def _pair(pair: Pair) -> dict[str, Any]:
    return {
        "v_first": None if pair.where.first is None else _text(pair.where.first),
        "v_safe": None if pair.where.safe is None else _text(pair.where.safe),
        "self_hosting_pays": pair.own_pays,
        "hosted": _option(pair.hosted),
        "self_hosted": _option(pair.own),
    }


def _option(option: Option) -> dict[str, Any]:
    return {
        "setup_usd": _text(option.setup_usd),
        "usd_per_month": _text(option.usd_per_month),
        "total_usd": _text(option.total_usd),
        "spent_usd_by_month": [_text(spent) for spent in option.spent_usd()],
        "first_token_ms": _text(option.first_token_ms),
        "people": _text(option.people),
    }


def _flip(flip: Flip) -> dict[str, Any]:
    return {
        "input": flip.name,
        "now": _value(flip.now),
        "to": _value(flip.to),
        "becomes": _key(flip.becomes),
        "doublings": round(flip.distance, 4),
    }


def _opinion(one: Opinion) -> dict[str, Any]:
    rule = one.rule
    return {
        "id": rule.id,
        "document": rule.document,
        "lines": rule.lines,
        "claims": list(rule.claims),
        "says": rule.says,
        "reading": rule.reading or None,
        "recommends": list(rule.recommends),
        "agrees": one.agrees,
        "why_not": list(one.against),
    }


def _key(key: Key) -> dict[str, Any]:
    return {"design": key[0], "self_hosted": key[1]}


def _value(value: Value) -> str | bool:
    return _text(value) if isinstance(value, Decimal) else value


def _text(value: Decimal) -> str:
    return format(_PRECISION.create_decimal(value).normalize(), "f")
