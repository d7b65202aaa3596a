"""What abstentions save, against sums that anyone can do by hand."""

from dataclasses import replace
from decimal import Decimal

import pytest

from serving.accounting.cost import GpuPrice, request_cost
from serving.accounting.record import Outcome, RequestRecord, Share, Times, Tokens
from serving.accounting.savings import AbstentionSavings, Saved

PRICE = GpuPrice("gpu", (), Decimal("3.60"), "test", "2026-01-01", "assumed")  # a tenth of a cent a second


def record(model: str, outcome: Outcome, prompt: int = 0, completion: int = 0, busy_s: float = 0.0) -> RequestRecord:
    return RequestRecord(
        id="r",
        started_at=0,
        endpoint="chat",
        model=model,
        engine_model="e",
        adapter=None,
        knowledge="kb",
        tenant="t",
        key_id="k",
        stream=False,
        outcome=outcome,
        status=200,
        error_code=None,
        passages=0,
        best_score=None,
        tokens=Tokens(prompt=prompt, completion=completion),
        times=Times(0.0),
        share=Share(busy_s, 5.0),
        cost=request_cost(Share(busy_s, 5.0), PRICE),
        simulated=False,
    )


def test_tokens_of_the_same_model_at_the_cost_of_all() -> None:
    savings = AbstentionSavings()
    assert savings.observe(record("a", "abstained")) == Saved()
    assert savings.observe(record("a", "complete", 90, 10, 1.0)) == Saved()
    first = savings.observe(record("b", "abstained"))  # it has given no answer yet: those of all
    assert (first.tokens, first.usd) == (100, pytest.approx(0.001))
    savings.observe(record("b", "complete", 250, 50, 1.0))
    assert savings.observe(record("a", "abstained")).tokens == pytest.approx(100)
    later = savings.observe(record("b", "abstained"))
    assert later.tokens == pytest.approx(300)
    assert later.usd == pytest.approx(300 * 0.002 / 400, rel=0.01)


def test_only_whole_answers_from_documents_count() -> None:
    savings = AbstentionSavings()
    savings.observe(replace(record("a", "complete", 90, 10, 1.0), knowledge=None))
    for outcome in ("error", "cancelled"):
        savings.observe(record("a", outcome, 90, 10, 1.0))
    assert savings.observe(record("a", "abstained")) == Saved()


def test_the_past_fades() -> None:
    savings = AbstentionSavings()
    for prompt in [1000] * 50 + [100] * 1000:
        savings.observe(record("a", "complete", prompt, 0, 1.0))
    assert savings.observe(record("a", "abstained")).tokens == pytest.approx(100, rel=0.01)
