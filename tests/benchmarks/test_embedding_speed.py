"""The two ways to embed, on a set small enough to judge by hand."""

from benchmarks.beir import JudgedSet
from benchmarks.embedding_speed import compare
from benchmarks.origin import Origin


def test_both_ways_rank_what_the_question_is_about_first() -> None:
    documents = {
        "leave": "# Annual leave\n\nEverybody has 28 days of leave a year.",
        "pump": "# The pump\n\nThe pump in the cellar starts when the water rises.",
        "bread": "# Bread\n\nKnead the dough for ten minutes and let it rest.",
    }
    queries = {"q1": "How many days off do I get?", "q2": "How do I bake a loaf?"}
    judged = JudgedSet("small", documents, queries, {"q1": {"leave": 1}, "q2": {"bread": 1, "pump": 0}})
    found = compare(judged, 2, Origin.here("test"))
    assert (found.set, found.passages) == ("small", 3)
    assert found.plain.ndcg_at_10 == found.ours.ndcg_at_10 == 1.0
    assert min(found.plain.passages_per_s, found.ours.passages_per_s, found.one_question_ms) > 0


def test_a_wrong_judgement_costs_quality() -> None:
    documents = {"leave": "Everybody has 28 days of leave.", "pump": "The pump starts when the water rises."}
    judged = JudgedSet("small", documents, {"q": "days of leave"}, {"q": {"pump": 1}})
    assert compare(judged, 2, Origin.here("test")).ours.ndcg_at_10 < 1.0
