"""The procedure: every input can change the answer, and self-hosting is never advised against the economic model."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.advice.decision import decide
from benchmarks.advice.flips import flips
from benchmarks.advice.needs import INPUTS
from benchmarks.advice.options import DESIGNS, pairs
from benchmarks.advice.terms import Terms
from benchmarks.economics.bills import hosted_bill, self_hosted
from benchmarks.economics.break_even import break_even
from tests.benchmarks.advice.small_prices import CHEAP, DEAR, needs, terms

RICH = {"budget_usd_per_month": "1M", "people": 2}


@pytest.mark.parametrize(
    ("values", "answer"),
    [
        ({}, ("RAG", False)),
        ({"need": "behaviour"}, ("prompt", False)),
        ({"need": "behaviour", "examples": 500}, ("fine-tune", False)),
        ({"need": "both", "examples": 500}, ("both", False)),
        ({"need": "both", "examples": 499}, ("RAG", False)),
        ({"need": "behaviour", "citations": True}, ("RAG", False)),
        ({"need": "behaviour", "per_user": "yes", "examples": "2k"}, ("both", False)),
        ({"need": "both", "examples": 500, "budget_usd_per_month": 300}, ("RAG", False)),
    ],
)
def test_what_the_needs_call_for(values: dict[str, Any], answer: tuple[str, bool]) -> None:
    assert decide(CHEAP, needs(**values)).key == answer


# Per input: prices, the other inputs, and two values with different answers.
@pytest.mark.parametrize(
    ("name", "where", "others", "one", "other"),
    [
        ("need", CHEAP, {}, "knowledge", "behaviour"),
        ("updates_per_month", DEAR, {"examples": "2k", "latency_ms": 600}, "quarterly", "weekly"),
        ("citations", CHEAP, {"need": "behaviour"}, False, True),
        ("per_user", CHEAP, {"need": "behaviour"}, False, True),
        ("examples", CHEAP, {"need": "behaviour"}, 499, 500),
        ("latency_ms", CHEAP, {"examples": "2k", "updates_per_month": 0}, 800, 799),
        ("budget_usd_per_month", CHEAP, {"need": "both", "examples": "2k"}, 5000, 300),
        ("volume", DEAR, RICH, "100k", "10M"),
        ("growth_per_month", DEAR, {**RICH, "volume": "100k"}, 0, "0.3"),
        ("people", DEAR, {**RICH, "volume": "10M"}, "0.05", "0.1"),
    ],
)
def test_every_input_changes_the_answer_somewhere(
    name: str, where: Terms, others: dict[str, Any], one: object, other: object
) -> None:
    assert name in INPUTS
    first, second = (decide(where, needs(**{**others, name: value})).key for value in (one, other))
    assert first != second


NEEDS = st.fixed_dictionaries(
    {
        "need": st.sampled_from(["knowledge", "behaviour", "both"]),
        "updates_per_month": st.sampled_from(["never", "0.2", "1", "weekly", "daily"]),
        "citations": st.booleans(),
        "per_user": st.booleans(),
        "examples": st.integers(0, 20_000),
        "latency_ms": st.integers(50, 5_000),
        "budget_usd_per_month": st.integers(0, 1_000_000),
        "volume": st.integers(1, 100_000_000),
        "growth_per_month": st.sampled_from(["-0.05", "0", "0.1", "0.4"]),
        "people": st.sampled_from(["0", "0.05", "0.2", "3"]),
    }
)


@settings(deadline=None, max_examples=150)
@given(st.sampled_from([CHEAP, DEAR, terms(hosted="dear", queries_per_minute=5)]), NEEDS)
def test_self_hosting_is_never_advised_where_the_model_says_never(where: Terms, values: dict[str, Any]) -> None:
    wanted = needs(**values)
    found = decide(where, wanted)
    scenario = found.pair.scenario
    ours, theirs = self_hosted(scenario), hosted_bill(scenario)
    solved = break_even(ours, theirs)
    if found.option.own:
        assert not solved.never
        assert any(ours.usd(volume) <= theirs.usd(volume) for volume in found.pair.volumes)
        assert found.option.people <= wanted.people
    if wanted.growth_per_month == 0 and not solved.pays(wanted.volume):
        assert not found.option.own
    assert found.option.design in DESIGNS
    if values["citations"] or values["per_user"]:
        assert found.option.design in ("RAG", "both")


def test_the_bills_of_an_option_are_those_of_the_economic_model() -> None:
    wanted = needs(volume="2M")
    for pair in pairs(DEAR, wanted).values():
        assert pair.own.months[0] == self_hosted(pair.scenario).usd(wanted.volume)
        assert pair.hosted.months[0] == hosted_bill(pair.scenario).usd(wanted.volume)
        assert pair.own.total_usd == pair.own.setup_usd + 24 * pair.own.months[0] == pair.own.spent_usd()[-1]


def test_a_tuned_model_costs_what_its_own_row_says_and_its_prompt_has_no_passages() -> None:
    costs = pairs(DEAR, needs(need="behaviour"))
    rag, tuned, prompt = (costs[design].per_query_usd for design in ("RAG", "fine-tune", "prompt"))
    assert float(rag) == pytest.approx((1400 * 2.5 + 250 * 10) / 1e6)
    assert float(prompt) == pytest.approx((200 * 2.5 + 250 * 10) / 1e6)
    assert float(tuned) == pytest.approx(1.5 * float(prompt))


def test_what_cannot_be_met_is_said() -> None:
    warnings = decide(CHEAP, needs(citations=True, latency_ms=100, budget_usd_per_month=1)).warnings
    assert any("over budget" in warning for warning in warnings)
    assert any("later than 100 ms" in warning for warning in warnings)


@pytest.mark.parametrize(
    ("where", "values"), [(CHEAP, {"need": "both", "examples": "2k"}), (DEAR, {**RICH, "volume": "2M"})]
)
def test_a_flip_changes_the_answer_and_nothing_nearer_does(where: Terms, values: dict[str, Any]) -> None:
    wanted = needs(**values)
    now = decide(where, wanted).key
    found = flips(wanted, lambda moved: decide(where, moved).key)
    assert len(found) >= 3
    assert [flip.distance for flip in found] == sorted(flip.distance for flip in found)
    for flip in found:
        assert decide(where, wanted.but(flip.name, flip.to)).key == flip.becomes != now
        if INPUTS[flip.name].number:
            nearer = (float(flip.to) * 9 + float(flip.now)) / 10
            assert decide(where, needs(**{**values, flip.name: nearer})).key == now
