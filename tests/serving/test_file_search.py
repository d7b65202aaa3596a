"""The `file_search` tool: filters, several stores, citations, on chat completions."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from serving import file_search
from serving.errors import BadRequest
from serving.limits import Limits
from tests.serving.tenants import QUESTION, Tenants, filled, tenants

LIMITS = Limits(8, 20, 65_536, 50)
ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": QUESTION}]
OFF: list[ChatCompletionMessageParam] = [{"role": "user", "content": "xylophone quantum zebra"}]


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Tenants]:
    async with tenants(tmp_path) as started:
        yield started


def tool(*stores: str, **options: Any) -> Any:
    return {"type": "file_search", "vector_store_ids": list(stores), **options}


def eq(key: str, value: Any, kind: str = "eq") -> Any:
    return {"type": kind, "key": key, "value": value}


async def tagged(client: openai.AsyncOpenAI, store: str, name: str, **attributes: Any) -> str:
    text = f"# Kettle {name}\n\nThe kettle {name} holds nine litres of wort.\n".encode()
    done = await client.vector_stores.files.upload_and_poll(
        vector_store_id=store, file=(f"{name}.md", text), attributes=attributes
    )
    assert done.status == "completed"
    return f"{name}.md"


async def names(client: openai.AsyncOpenAI, store: str, **options: Any) -> set[str]:
    return {each.filename async for each in client.vector_stores.search(store, query=QUESTION, **options)}


async def test_attribute_filters_choose_files(both: Tenants) -> None:
    store = (await both.ours.vector_stores.create(name="s")).id
    old = await tagged(both.ours, store, "old", year=2019, site="north", open=True)
    new = await tagged(both.ours, store, "new", year=2024.5, site="south", open=False)
    cases: list[tuple[Any, set[str]]] = [
        (eq("site", "north"), {old}),
        (eq("site", "north", "ne"), {new}),
        (eq("year", 2019, "gt"), {new}),
        (eq("year", 2019, "gte"), {old, new}),
        (eq("year", 2024.5, "lt"), {old}),
        (eq("year", 2019, "lte"), {old}),
        (eq("site", ["south", "west"], "in"), {new}),
        (eq("site", ["south", "west"], "nin"), {old}),
        (eq("open", True), {old}),
        ({"type": "and", "filters": [eq("site", "north"), eq("year", 2020, "gt")]}, set()),
        ({"type": "or", "filters": [eq("site", "north"), eq("year", 2020, "gt")]}, {old, new}),
    ]
    for filter, expected in cases:
        assert await names(both.user, store, filters=filter) == expected, filter
    found = [each async for each in both.user.vector_stores.search(store, query=QUESTION, filters=eq("year", 2019))]
    assert found[0].attributes == {"year": 2019, "site": "north", "open": True}


async def test_new_attributes_are_searchable_at_once(both: Tenants) -> None:
    store, file = await filled(both.ours)
    changed = await both.ours.vector_stores.files.update(file, vector_store_id=store, attributes={"site": "west"})
    assert (changed.status, changed.attributes) == ("completed", {"site": "west"})
    assert await names(both.user, store, filters=eq("site", "west")) == {"kettle.md"}
    await both.ours.vector_stores.files.update(file, vector_store_id=store, attributes={})
    assert await names(both.user, store, filters=eq("site", "west")) == set()


async def test_search_takes_several_queries_a_threshold_and_a_number(both: Tenants) -> None:
    store = (await both.ours.vector_stores.create(name="s")).id
    for name in ("red", "blue", "green"):
        await tagged(both.ours, store, name)
    assert len([each async for each in both.user.vector_stores.search(store, query=QUESTION, max_num_results=2)]) == 2
    first = both.user.vector_stores.search(store, query=["kettle blue", "kettle red"], max_num_results=2)
    assert {each.filename async for each in first} == {"blue.md", "red.md"}
    high: Any = {"score_threshold": 0.99, "ranker": "auto"}
    assert await names(both.user, store, ranking_options=high) == set()


@pytest.mark.parametrize(
    ("options", "status", "param"),
    [
        ({"query": ""}, 400, "query"),
        ({"query": []}, 400, "query"),
        ({"max_num_results": 51}, 400, "max_num_results"),
        ({"ranking_options": {"score_threshold": 2}}, 400, "ranking_options.score_threshold"),
        ({"ranking_options": {"ranker": "mine"}}, 400, "ranking_options"),
        ({"filters": {"type": "like", "key": "a", "value": "b"}}, 400, "filters"),
        ({"rewrite_query": True}, 501, "rewrite_query"),
    ],
)
async def test_bad_searches_name_their_field(both: Tenants, options: Any, status: int, param: str) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await both.user.vector_stores.search("books", **{"query": "water", **options})
    assert (refused.value.status_code, refused.value.param) == (status, param)


async def test_chat_answers_from_vector_stores(both: Tenants) -> None:
    store, file = await filled(both.ours)
    answer = await both.user.chat.completions.create(model="plain", messages=ASK, tools=[tool(store)])
    annotations: Any = answer.choices[0].message.annotations
    citation = annotations[0].model_dump()["file_citation"]
    assert (citation["file_id"], citation["filename"]) == (file, "kettle.md")
    assert answer.model_extra is not None
    assert answer.model_extra["breakeven"]["retrieval"]["knowledge"] == "kettles"
    assert answer.model_extra["breakeven"]["tokens"]["retrieved_estimate"] > 0


async def test_chat_streams_the_same_citations(both: Tenants) -> None:
    store, file = await filled(both.ours)
    stream = await both.user.chat.completions.create(model="plain", messages=ASK, tools=[tool(store)], stream=True)
    deltas = [chunk.choices[0].delta.model_extra or {} async for chunk in stream if chunk.choices]
    cited = [each["file_citation"]["file_id"] for extra in deltas for each in extra.get("annotations", [])]
    assert cited == [file]


async def test_several_stores_are_merged_by_score(both: Tenants) -> None:
    stores = [(await both.ours.vector_stores.create(name=name)).id for name in ("a", "b")]
    await tagged(both.ours, stores[0], "near")
    other = b"# Other\n\nThe kettle.\n"
    await both.ours.vector_stores.files.upload_and_poll(vector_store_id=stores[1], file=("far.md", other))
    options = tool(*stores[::-1], max_num_results=2, ranking_options={"score_threshold": 0})
    answer = await both.user.chat.completions.create(model="plain", messages=ASK, tools=[options])
    assert answer.model_extra is not None
    found = answer.model_extra["breakeven"]["retrieval"]
    assert [each["source"].rpartition("/")[2] for each in found["passages"]] == ["near.md", "far.md"]
    assert found["best_score"] == pytest.approx(found["passages"][0]["score"], abs=1e-4)
    one = await both.user.chat.completions.create(model="plain", messages=ASK, tools=[options | {"max_num_results": 1}])
    assert one.model_extra is not None
    assert len(one.model_extra["breakeven"]["retrieval"]["passages"]) == 1


async def test_nothing_relevant_is_an_abstention(both: Tenants) -> None:
    store, _ = await filled(both.ours)
    answer = await both.user.chat.completions.create(model="plain", messages=OFF, tools=[tool(store)])
    assert answer.model_extra is not None
    assert answer.model_extra["breakeven"]["abstained"] is True


async def test_an_id_of_another_tenant_is_as_unknown_as_none(both: Tenants) -> None:
    store, file = await filled(both.ours)
    unknown = "vs_" + "0" * 24
    calls: list[Any] = [
        both.theirs.vector_stores.retrieve,
        lambda id: both.theirs.vector_stores.update(id, name="mine"),
        both.theirs.vector_stores.delete,
        lambda id: both.theirs.vector_stores.search(id, query=QUESTION),
        lambda id: both.theirs.vector_stores.search(id, query=QUESTION, filters=eq("tenant", "local")),
        both.theirs.vector_stores.files.list,
        lambda id: both.theirs.vector_stores.files.retrieve(file, vector_store_id=id),
        lambda id: both.theirs.vector_stores.files.content(file, vector_store_id=id),
        lambda id: both.theirs.vector_stores.files.delete(file, vector_store_id=id),
        lambda id: both.theirs.vector_stores.file_batches.create(id, file_ids=[file]),
        lambda id: both.theirs.chat.completions.create(model="plain", messages=ASK, tools=[tool(id)]),
        lambda id: both.theirs.responses.create(model="plain", input=QUESTION, tools=[tool(id)]),
    ]
    for call in calls:
        messages = []
        for id in (store, unknown):
            with pytest.raises(openai.NotFoundError) as refused:
                await call(id)
            messages.append(refused.value.message.replace(id, "ID"))
        assert messages[0] == messages[1]
    assert {each.filename async for each in both.ours.vector_stores.search(store, query=QUESTION)} == {"kettle.md"}


async def test_a_file_of_another_tenant_cannot_be_attached(both: Tenants) -> None:
    _, file = await filled(both.ours)
    store = (await both.theirs.vector_stores.create(name="kettles")).id
    with pytest.raises(openai.NotFoundError):
        await both.theirs.vector_stores.files.create(store, file_id=file)
    with pytest.raises(openai.NotFoundError):
        await both.theirs.vector_stores.create(file_ids=[file])
    assert [each async for each in both.theirs.vector_stores.search(store, query=QUESTION)] == []
    assert [each.id async for each in both.theirs.vector_stores.list()] == [store]
    hidden = [eq("group:everyone", True), eq("version", "", "ne"), eq("source", "", "ne")]
    filters = [*hidden, {"type": "or", "filters": hidden}]
    for filter in filters:
        assert await names(both.theirs, store, filters=filter) == set()


async def test_management_is_for_operators(both: Tenants) -> None:
    for call in (both.user.vector_stores.list, both.user.vector_stores.create):
        with pytest.raises(openai.PermissionDeniedError):
            await call()


def test_the_tool_is_taken_out_and_the_rest_stays() -> None:
    function = {"type": "function", "function": {"name": "f"}}
    found, rest = file_search.take({"tools": [function, tool("a", "a", "b")], "tool_choice": "auto"}, LIMITS)
    assert found == file_search.FileSearch(("a", "b"))
    assert rest == {"tools": [function], "tool_choice": "auto"}
    for choice in ("required", {"type": "file_search"}):
        _, rest = file_search.take({"tools": [tool("a")], "tool_choice": choice, "n": 1}, LIMITS)
        assert rest == {"n": 1}
    assert file_search.take({"tools": [function]}, LIMITS) == (None, {"tools": [function]})


@pytest.mark.parametrize(
    "tools",
    [[tool()], [tool("a"), tool("b")], [tool(*map(str, range(11)))], [tool("a", colour=1)], [{"type": "file_search"}]],
)
def test_bad_tools_are_refused(tools: Any) -> None:
    with pytest.raises(BadRequest):
        file_search.take({"tools": tools}, LIMITS)


def test_a_deep_filter_is_refused_before_it_is_walked() -> None:
    filter: Any = eq("a", 1)
    for _ in range(5000):
        filter = {"type": "and", "filters": [filter]}
    with pytest.raises(BadRequest, match="nested"):
        file_search.attribute_filter(filter)
