"""What abstentions save, against sums that anyone can do by hand."""

from dataclasses import replace

import pytest

from serving.accounting.record import Outcome, RequestRecord, Share, Tokens
from serving.accounting.savings import AbstentionSavings, Saved
from tests.serving.books import request_record


def record(model: str, outcome: Outcome, prompt: int = 0, completion: int = 0, busy_s: float = 0.0) -> RequestRecord:
    tokens = Tokens(prompt=prompt, completion=completion)
    return request_record(Share(busy_s, 5.0), model=model, knowledge="kb", outcome=outcome, tokens=tokens)


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
