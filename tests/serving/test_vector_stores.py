"""`client.vector_stores` as OpenAI's own client sees it."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from serving.auth import LOCAL_OPERATOR
from serving.stores.sources import file_of
from tests.serving.tenants import QUESTION, TEXT, Tenants, filled, tenants

MORE = b"# Bottling\n\nCaps are pressed by hand.\n"
STATIC = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 10}}


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Tenants]:
    async with tenants(tmp_path) as started:
        yield started


async def upload(client: openai.AsyncOpenAI, name: str, data: bytes = TEXT) -> str:
    return (await client.files.create(file=(name, data), purpose="assistants")).id


async def test_a_store_is_created_updated_and_deleted(both: Tenants) -> None:
    stores = both.ours.vector_stores
    made = await stores.create(
        name="brewery", metadata={"team": "beer"}, expires_after={"anchor": "last_active_at", "days": 3}
    )
    assert (made.name, made.status, made.metadata) == ("brewery", "completed", {"team": "beer"})
    assert made.file_counts.total == 0
    assert made.expires_at is not None
    assert made.expires_at - (made.last_active_at or 0) == 3 * 86_400
    changed = await stores.update(made.id, name="cellar", metadata=None)
    assert (changed.name, changed.metadata, changed.expires_at) == ("cellar", {}, made.expires_at)
    assert (await stores.update(made.id, expires_after=None)).expires_at is None
    assert (await stores.retrieve(made.id)).name == "cellar"
    assert [each async for each in stores.search(made.id, query="anything")] == []
    assert (await stores.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await stores.retrieve(made.id)


async def test_stores_are_listed_in_pages(both: Tenants) -> None:
    made = [(await both.ours.vector_stores.create(name=f"n{number}")).id for number in range(3)]
    listed = [each async for each in both.ours.vector_stores.list(limit=2, order="asc")]
    assert [each.name for each in listed] == ["n0", "n1", "n2", "books"]
    before = await both.ours.vector_stores.list(order="asc", before=made[2], limit=1)
    assert [each.id for each in before.data] == [made[1]]


async def test_knowledge_that_was_ingested_is_a_vector_store(both: Tenants) -> None:
    store = await both.ours.vector_stores.retrieve("books")
    assert store.id.startswith("vs_")
    assert store.file_counts.completed == store.file_counts.total == 1
    assert store.usage_bytes > 0
    assert (await both.ours.vector_stores.retrieve(store.id)).name == "books"
    found = [each async for each in both.ours.vector_stores.search(store.id, query="rain gauge holds water")]
    file = (await both.ours.vector_stores.files.list(store.id)).data[0]
    assert (found[0].filename, found[0].file_id) == ("gauges.md", file.id)
    with pytest.raises(openai.APIStatusError, match="ingested") as refused:
        await both.ours.vector_stores.files.update(file.id, vector_store_id=store.id, attributes={"a": 1})
    assert refused.value.status_code == 501
    await both.ours.vector_stores.files.delete(file.id, vector_store_id=store.id)
    assert (await both.ours.vector_stores.retrieve(store.id)).file_counts.total == 0


async def test_a_vector_store_is_a_knowledge_base(both: Tenants) -> None:
    await filled(both.ours, "kettles")
    body = {"breakeven": {"knowledge": "kettles", "min_score": 0.1}}
    answer = await both.user.chat.completions.create(
        model="plain", messages=[{"role": "user", "content": QUESTION}], extra_body=body
    )
    annotations: Any = answer.choices[0].message.annotations
    assert annotations[0].model_dump()["file_citation"]["filename"] == "kettle.md"


async def test_two_stores_of_one_name_are_two(both: Tenants) -> None:
    first, _ = await filled(both.ours, "same")
    second = await both.ours.vector_stores.create(name="same")
    assert [each async for each in both.ours.vector_stores.search(second.id, query=QUESTION)] == []
    assert [each async for each in both.ours.vector_stores.search(first, query=QUESTION)]


async def test_a_file_is_ingested_found_read_and_removed(both: Tenants) -> None:
    store, file = await filled(both.ours)
    found = [each async for each in both.user.vector_stores.search(store, query=QUESTION)]
    assert (found[0].file_id, found[0].filename) == (file, "kettle.md")
    assert "nine litres" in found[0].content[0].text
    assert 0 < found[0].score <= 1
    text = (await both.ours.vector_stores.files.content(file, vector_store_id=store)).data[0].text
    assert text == TEXT.decode()
    described = await both.ours.vector_stores.files.retrieve(file, vector_store_id=store)
    assert described.usage_bytes > 0
    await both.ours.vector_stores.files.delete(file, vector_store_id=store)
    assert [each async for each in both.ours.vector_stores.search(store, query=QUESTION)] == []
    assert (await both.ours.files.retrieve(file)).id == file
    with pytest.raises(openai.NotFoundError):
        await both.ours.vector_stores.files.retrieve(file, vector_store_id=store)


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [("a.xyz", b"words", "unsupported_file"), ("a.md", b"", "invalid_file"), ("a.pdf", b"no pdf", "invalid_file")],
)
async def test_a_file_that_cannot_be_read_fails_with_its_reason(
    both: Tenants, name: str, data: bytes, code: str
) -> None:
    store = await both.ours.vector_stores.create(name="s")
    file = await upload(both.ours, name, data)
    done = await both.ours.vector_stores.files.create_and_poll(file, vector_store_id=store.id)
    assert done.status == "failed"
    assert done.last_error is not None
    assert done.last_error.code == code
    assert name in done.last_error.message
    counts = (await both.ours.vector_stores.retrieve(store.id)).file_counts
    assert (counts.failed, counts.completed) == (1, 0)


async def test_a_store_may_start_with_files(both: Tenants) -> None:
    files = [await upload(both.ours, "a.md"), await upload(both.ours, "b.md", MORE)]
    store = await both.ours.vector_stores.create(file_ids=files)
    while store.status == "in_progress":
        await asyncio.sleep(0.02)
        store = await both.ours.vector_stores.retrieve(store.id)
    assert store.file_counts.completed == 2
    assert {each.id async for each in both.ours.vector_stores.files.list(store.id, filter="completed")} == set(files)
    assert [each async for each in both.ours.vector_stores.files.list(store.id, filter="failed")] == []


async def test_batches(both: Tenants) -> None:
    store = (await both.ours.vector_stores.create(name="s")).id
    files = [await upload(both.ours, f"{name}.md", TEXT + name.encode()) for name in "abc"]
    batches = both.ours.vector_stores.file_batches
    done = await batches.create_and_poll(store, file_ids=files)
    assert (done.status, done.file_counts.completed, done.file_counts.total) == ("completed", 3, 3)
    listed = [each.id async for each in batches.list_files(done.id, vector_store_id=store, limit=2)]
    assert sorted(listed) == sorted(files)
    both_ways: Any = [{"file_id": files[0], "attributes": {"k": "x"}}, {"file_id": files[1]}]
    again = await batches.create_and_poll(store, files=both_ways)
    assert again.file_counts.completed == 2
    tagged = await both.ours.vector_stores.files.retrieve(files[0], vector_store_id=store)
    assert tagged.attributes == {"k": "x"}
    uploaded = await batches.upload_and_poll(store, files=[("d.md", MORE)], file_ids=[files[2]])
    assert uploaded.file_counts.completed == 2
    with pytest.raises(openai.BadRequestError, match="either"):
        await batches.create(store, file_ids=files, files=both_ways)


async def test_a_cancelled_batch_leaves_the_rest_out(both: Tenants) -> None:
    store = (await both.ours.vector_stores.create(name="s")).id
    files = [await upload(both.ours, f"{number}.md", TEXT + b"x" * number) for number in range(30)]
    batches = both.ours.vector_stores.file_batches
    batch = await batches.create(store, file_ids=files)
    cancelled = await batches.cancel(batch.id, vector_store_id=store)
    assert cancelled.status == "cancelled"
    assert cancelled.file_counts.cancelled > 0
    await asyncio.sleep(0.3)
    left = await batches.retrieve(batch.id, vector_store_id=store)
    assert left.file_counts == cancelled.file_counts
    done = {each.id async for each in both.ours.vector_stores.files.list(store, filter="completed", limit=100)}
    found = {each.file_id async for each in both.ours.vector_stores.search(store, query=QUESTION, max_num_results=50)}
    assert found <= done
    documents = both.stack.gateway.knowledge.documents
    stored = [each.source for each in await documents(LOCAL_OPERATOR, "s")] if done else []
    assert {file_of(source)[0] for source in stored} == done


async def test_static_chunks_must_fit_the_embedder(both: Tenants) -> None:
    store, _ = await filled(both.ours)
    file = await upload(both.ours, "b.md", MORE)
    with pytest.raises(openai.BadRequestError, match="takes 64") as refused:  # the embedder of these tests
        await both.ours.vector_stores.files.create(store, file_id=file, chunking_strategy=STATIC)  # type: ignore[arg-type]  # a plain dict
    assert refused.value.param == "chunking_strategy.static.max_chunk_size_tokens"
    done = await both.ours.vector_stores.files.create_and_poll(
        file, vector_store_id=store, chunking_strategy={"type": "auto"}
    )
    assert done.chunking_strategy is not None
    assert done.chunking_strategy.type == "static"
    assert done.chunking_strategy.static.max_chunk_size_tokens == 64


async def test_groups_of_a_file_decide_who_finds_it(both: Tenants) -> None:
    store = (await both.ours.vector_stores.create(name="s")).id
    file = await upload(both.ours, "secret.md")
    await both.ours.vector_stores.files.create(store, file_id=file, extra_body={"breakeven": {"groups": ["brewers"]}})
    assert (await both.ours.vector_stores.files.poll(file, vector_store_id=store)).status == "completed"
    brewer = both.stack.gateway.keys.create("local", ["brewers"], "user")
    assert [each async for each in both.user.vector_stores.search(store, query=QUESTION)] == []
    allowed = both.user.with_options(api_key=brewer)
    assert len([each async for each in allowed.vector_stores.search(store, query=QUESTION)]) == 1


async def test_ingestion_goes_on_after_a_restart(tmp_path: Path) -> None:
    async with tenants(tmp_path) as first:
        store = (await first.ours.vector_stores.create(name="s")).id
        files = [await upload(first.ours, f"{number}.md", TEXT + b"x" * number) for number in range(40)]
        await first.ours.vector_stores.file_batches.create(store, file_ids=files)
    with sqlite3.connect(tmp_path / "files.db") as catalogue:
        left = catalogue.execute("SELECT count(*) FROM attachments WHERE status = 'in_progress'").fetchone()[0]
    assert left > 0
    async with tenants(tmp_path) as second:
        found = await second.ours.vector_stores.retrieve(store)
        while found.status == "in_progress":
            await asyncio.sleep(0.02)
            found = await second.ours.vector_stores.retrieve(store)
        assert found.file_counts.completed == 40


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"name": 3}, "name"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"metadata": {str(number): "" for number in range(17)}}, "metadata"),
        ({"expires_after": {"anchor": "last_active_at", "days": 0}}, "expires_after.days"),
        ({"expires_after": {"anchor": "created_at", "days": 1}}, "expires_after"),
        ({"file_ids": "file-1"}, "file_ids"),
        ({"chunking_strategy": {"type": "semantic"}}, "chunking_strategy"),
        ({"colour": "red"}, "colour"),
    ],
)
async def test_bad_fields_are_named(both: Tenants, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await both.ours.post("/vector_stores", body=fields, cast_to=object)
    assert refused.value.param == param
