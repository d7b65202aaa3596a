"""A caller's filter can narrow, and can never name a group, a version or anything else of the store's own."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retrieval import filters
from retrieval.errors import BadFilter, BadName


@pytest.mark.parametrize(
    ("given_filter", "where"),
    [
        ({"source": "a.md"}, {"source": {"$eq": "a.md"}}),
        ({"year": {"$gte": 2024}}, {"attr:year": {"$gte": 2024}}),
        ({"draft": False}, {"attr:draft": {"$eq": False}}),
        ({"lang": {"$in": ["de", "en"]}}, {"attr:lang": {"$in": ["de", "en"]}}),
        ({"a": 1, "b": 2}, {"$and": [{"attr:a": {"$eq": 1}}, {"attr:b": {"$eq": 2}}]}),
        ({"$or": [{"a": 1}, {"source": {"$ne": "x"}}]}, {"$or": [{"attr:a": {"$eq": 1}}, {"source": {"$ne": "x"}}]}),
        ({"$and": [{"a": 1}]}, {"attr:a": {"$eq": 1}}),
        ({"group:hr": True}, {"attr:group:hr": {"$eq": True}}),
        ({"version": "x"}, {"attr:version": {"$eq": "x"}}),
    ],
)
def test_translates_to_attributes(given_filter: dict[str, Any], where: dict[str, Any]) -> None:
    assert filters.translate(given_filter) == where


def deep(levels: int) -> dict[str, Any]:
    return {"a": 1} if levels == 1 else {"$and": [deep(levels - 1), {"b": 1}]}


@pytest.mark.parametrize(
    "bad",
    [
        {}, [], "source", {"$not": {"a": 1}}, {"$where": "1"}, {"$and": []}, {"$or": {"a": 1}}, {"$or": [1]}, {1: 2},
        {"a": {"$gt": "x"}}, {"a": {"$gt": True}}, {"a": {"$regex": ".*"}}, {"a": {"$eq": 1, "$ne": 2}}, {"a": {}},
        {"a": None}, {"a": math.nan}, {"a": math.inf}, {"a": 2**63}, {"a": [1]}, {"a": {"$in": []}},
        {"a": {"$in": [1, "x"]}}, {"a": {"$in": [1, True]}}, {"a": {"$in": list(range(101))}}, {"": 1}, {"$": 1},
        {"a\0": 1}, {"x" * 65: 1}, deep(5), {"$or": [{"a": 1}] * 33}, {f"a{n}": 1 for n in range(33)},
        {"$or": [{"$or": [{"a": 1}] * 20}, {"$or": [{"a": 1}] * 20}]},
    ],
)  # fmt: skip
def test_refuses_everything_else(bad: Any) -> None:
    with pytest.raises(BadFilter, match="filter on 'source' or on document attributes"):
        filters.translate(bad)


KEYS = st.sampled_from(["$and", "$or", "$in", "$eq", "$ne", "$x", "a", "group:x", "version", "source", ""])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["", "x", "group:hr"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def keys(where: Any) -> set[str]:
    if isinstance(where, list):
        return set().union(*map(keys, where))
    return set().union(*(keys(value) if key in ("$and", "$or") else {key} for key, value in where.items()))


@given(st.dictionaries(KEYS, JSON, max_size=3))
def test_any_filter_is_refused_or_reaches_only_attributes(given_filter: dict[str, Any]) -> None:
    try:
        where = filters.translate(given_filter)
    except BadFilter:
        return
    assert all(key == "source" or key.startswith("attr:") for key in keys(where))


@pytest.mark.parametrize("name", ["", " a", "a\0b", "x" * 65, "é", "$or", "a\n"])
def test_names_that_cannot_be_stored(name: str) -> None:
    with pytest.raises(BadName, match="letters"):
        filters.check_name("group", name)
    with pytest.raises(BadName):
        filters.stored_groups({name})


def test_attributes_and_groups_as_stored() -> None:
    assert filters.stored_groups({"hr"}) == {"group:hr": True}
    assert filters.stored_attributes({"year": 2024}) == {"attr:year": 2024}
    refused: list[Any] = [{"source": "x"}, {"a": None}, {"a": [1]}, {"a": math.nan}]
    for bad in refused:
        with pytest.raises(BadName):
            filters.stored_attributes(bad)
    with pytest.raises(BadName, match="at least one"):
        filters.stored_groups(set())


ROW: dict[str, Any] = {"attr:a": 3, "attr:b": "x", "attr:c": True, "attr:d": 2.5, "source": "s.md"}


@pytest.mark.parametrize(
    ("given_filter", "passes"),
    [
        ({"a": 3}, True), ({"a": 3.0}, True), ({"a": "3"}, False), ({"a": True}, False), ({"c": True}, True),
        ({"c": 1}, False), ({"a": {"$ne": 3}}, False), ({"missing": {"$ne": 3}}, True), ({"missing": 3}, False),
        ({"a": {"$gt": 2.5}}, True), ({"a": {"$lt": 3}}, False), ({"a": {"$lte": 3}}, True), ({"d": {"$gte": 2}}, True),
        ({"b": {"$gt": 1}}, False), ({"c": {"$gte": 1}}, False), ({"missing": {"$lt": 1}}, False),
        ({"a": {"$in": [1, 3]}}, True), ({"a": {"$nin": [1, 3]}}, False), ({"missing": {"$nin": ["x"]}}, True),
        ({"source": "s.md", "a": 3}, True), ({"source": {"$in": ["t.md"]}}, False),
        ({"c": {"$in": [False, True]}}, True), ({"$or": [{"a": 4}, {"b": "x"}]}, True),
        ({"$and": [{"a": 3}, {"b": "y"}]}, False),
    ],
)  # fmt: skip
def test_which_documents_pass(given_filter: dict[str, Any], passes: bool) -> None:
    assert filters.matches(filters.translate(given_filter), ROW) is passes


def test_the_sources_that_a_filter_leaves() -> None:
    def left(given_filter: dict[str, Any]) -> list[str] | None:
        return filters.sources(filters.translate(given_filter))

    assert left({"source": "a"}) == left({"x": 1, "source": {"$in": ["a"]}}) == ["a"]
    assert left({"source": {"$ne": "a"}}) is left({"$or": [{"source": "a"}, {"x": 1}]}) is left({"x": 1}) is None
    assert filters.reads_source(filters.translate({"$or": [{"x": 1}, {"y": 1, "source": "a"}]}))
    assert not filters.reads_source(filters.translate({"$or": [{"x": 1}, {"y": "source"}]}))
