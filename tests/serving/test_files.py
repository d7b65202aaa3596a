"""`client.files` as OpenAI's own client sees it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from serving.stores.files import SHORTEST_S
from tests.serving.gateways import running, settings_for
from tests.serving.tenants import TEXT, Tenants, filled, tenants

UNKNOWN = "file-000000000000000000000000"


@pytest.fixture
async def both(tmp_path: Path) -> AsyncIterator[Tenants]:
    async with tenants(tmp_path) as started:
        yield started


async def test_a_file_comes_back_as_it_was(both: Tenants) -> None:
    data = bytes(range(256)) * 8000  # over what a form keeps in memory
    made = await both.ours.files.create(file=("deep/blob.bin", data), purpose="user_data")
    assert (made.filename, made.bytes, made.purpose, made.status) == ("blob.bin", len(data), "user_data", "processed")
    assert await both.ours.files.retrieve(made.id) == made
    assert (await both.ours.files.content(made.id)).content == data
    assert (await both.ours.files.wait_for_processing(made.id)).id == made.id
    assert (await both.ours.files.delete(made.id)).deleted
    with pytest.raises(openai.NotFoundError):
        await both.ours.files.retrieve(made.id)


async def test_deleted_bytes_leave_the_disk(both: Tenants) -> None:
    folder = both.stack.gateway.settings.home / "files"
    made = await both.ours.files.create(file=("a.md", TEXT), purpose="assistants")
    assert [path.name for path in folder.iterdir()] == [made.id]
    await both.ours.files.delete(made.id)
    assert list(folder.iterdir()) == []


async def test_lists_are_paged_in_both_orders(both: Tenants) -> None:
    made = [await both.ours.files.create(file=(f"{n}.md", TEXT), purpose="assistants") for n in range(5)]
    ids = [each.id for each in made]
    assert [each.id async for each in both.ours.files.list(limit=2, order="asc")] == ids
    assert [each.id async for each in both.ours.files.list(limit=3)] == ids[::-1]
    page = await both.ours.files.list(limit=2, order="asc", after=ids[1])
    assert ([each.id for each in page.data], page.has_more) == (ids[2:4], True)
    assert [each.id async for each in both.ours.files.list(purpose="user_data")] == []


async def test_files_of_another_tenant_are_as_unknown_as_none(both: Tenants) -> None:
    made = await both.ours.files.create(file=("a.md", TEXT), purpose="assistants")
    for call in (both.theirs.files.retrieve, both.theirs.files.delete, both.theirs.files.content):
        messages = []
        for id in (made.id, UNKNOWN):
            with pytest.raises(openai.NotFoundError) as refused:
                await call(id)
            messages.append(refused.value.message.replace(id, "ID"))
        assert messages[0] == messages[1]
    assert [each.id async for each in both.theirs.files.list()] == []
    assert (await both.ours.files.retrieve(made.id)).id == made.id


async def test_files_are_for_operators(both: Tenants) -> None:
    with pytest.raises(openai.PermissionDeniedError):
        await both.user.files.create(file=("a.md", TEXT), purpose="assistants")
    with pytest.raises(openai.PermissionDeniedError):
        await both.user.files.list()


@pytest.mark.parametrize("purpose", ["batch", "vision", "evals"])
async def test_purposes_without_a_counterpart_say_why(both: Tenants, purpose: Any) -> None:
    with pytest.raises(openai.APIStatusError) as refused:
        await both.ours.files.create(file=("a.jsonl", b"{}"), purpose=purpose)
    assert refused.value.status_code == 501
    assert refused.value.code == "not_implemented"
    assert purpose in refused.value.message


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"purpose": "anything"}, "purpose"),
        ({"purpose": "assistants", "file": (" ", TEXT)}, "file"),
        ({"purpose": "assistants", "file": ("a" * 256, TEXT)}, "file"),
        ({"purpose": "assistants", "expires_after": {"anchor": "created_at", "seconds": 5}}, "expires_after"),
    ],
)
async def test_bad_uploads_name_their_field(both: Tenants, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        await both.ours.files.create(**{"file": ("a.md", TEXT), **fields})
    assert refused.value.param == param


async def test_a_file_says_when_it_expires(both: Tenants) -> None:
    made = await both.ours.files.create(
        file=("a.md", TEXT), purpose="assistants", expires_after={"anchor": "created_at", "seconds": SHORTEST_S}
    )
    assert made.expires_at is not None
    assert made.expires_at - made.created_at == SHORTEST_S


async def test_a_file_over_the_limit_is_refused_and_not_kept(tmp_path: Path) -> None:
    async with running(settings_for(tmp_path, server={"port": 0, "max_document_bytes": 2048})) as stack:
        client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0)
        for size in (2049, 500_000):
            with pytest.raises(openai.APIStatusError) as refused:
                await client.files.create(file=("a.md", b"x" * size), purpose="assistants")
            assert refused.value.status_code == 413
        assert list((tmp_path / "files").iterdir()) == []
        assert (await client.files.create(file=("a.md", b"x" * 2048), purpose="assistants")).bytes == 2048


async def test_a_body_that_is_no_form_is_refused(both: Tenants) -> None:
    with pytest.raises(openai.BadRequestError, match="multipart"):
        await both.ours.post("/files", body={"purpose": "assistants"}, cast_to=object)


async def test_deleting_a_file_takes_it_out_of_every_store(both: Tenants) -> None:
    store, file = await filled(both.ours)
    await both.ours.files.delete(file)
    assert [each.id async for each in both.ours.vector_stores.files.list(store)] == []
    assert [each async for each in both.ours.vector_stores.search(store, query="kettle wort")] == []


async def test_files_outlive_the_gateway(tmp_path: Path) -> None:
    async with tenants(tmp_path) as first:
        made = await first.ours.files.create(file=("a.md", TEXT), purpose="assistants")
    (tmp_path / "files" / "file-ffff.part").write_bytes(b"left by a crash")
    async with running(settings_for(tmp_path)) as stack:
        key = stack.gateway.keys.create("local", ["everyone"], "operator")
        client = openai.AsyncOpenAI(base_url=f"{stack.url}/v1", api_key=key, max_retries=0)
        assert (await client.files.content(made.id)).content == TEXT
        assert [path.name for path in (tmp_path / "files").iterdir()] == [made.id]
