"""Where the shipped documents contradict each other, and that the answer follows from their figures."""

from dataclasses import replace
from decimal import Decimal

from benchmarks.claims.claim import Group
from benchmarks.claims.contradictions import all_conflicts, conflicts
from benchmarks.claims.reading import read_book

BOOK = read_book()


def group(name: str) -> Group:
    return next(one for one in BOOK.groups if one.id == name)


def pairs(name: str) -> set[tuple[str, str]]:
    one = replace(BOOK, groups=(group(name),))
    return {(conflict.one.claims[0], conflict.other.claims[0]) for conflict in all_conflicts(one)}


def test_figures_without_a_common_value_are_in_conflict() -> None:
    assert pairs("cadence") == {("C06", "B08"), ("C06", "D40"), ("B08", "D40")}
    assert pairs("query-cost") == {("A09", "B04")}


def test_figures_that_overlap_are_not() -> None:
    assert ("C01", "D01") not in pairs("late-discovery")


def test_moving_a_figure_ends_the_conflict() -> None:
    budget = group("budget")
    sides = (budget.sides[0], replace(budget.sides[1], low=Decimal(4000)))
    assert all_conflicts(replace(BOOK, groups=(budget,))) != ()
    assert all_conflicts(replace(BOOK, groups=(replace(budget, sides=sides),))) == ()


def test_different_stances_are_in_conflict_and_one_alone_is_not() -> None:
    assert pairs("irrelevant-passages") == {("B13", "D37")}
    assert pairs("start") == set()


def test_a_claim_sees_its_own_side_first() -> None:
    (found,) = conflicts(BOOK, "D49")
    assert (found.one.claims, found.other.claims) == (("D37", "D49"), ("B13",))


def test_every_side_names_another_document_or_another_answer() -> None:
    for one in BOOK.groups:
        claims = [claim for side in one.sides for claim in side.claims]
        assert len({claim[0] for claim in claims}) > 1, one.id
