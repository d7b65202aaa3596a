"""Every method of the SDK's resources that the gateway claims: it works, or it is 501 with the reason.

The methods are found by looking at the SDK, so a new version that has more of them fails here until it is decided.
"""

import inspect
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.resources.vector_stores import AsyncVectorStores
from websockets.exceptions import InvalidStatus

from tests.serving.tenants import QUESTION, TEXT, Tenants, filled, tenants

RESOURCES = ("files", "vector_stores", "responses", "chat", "conversations", "uploads", "fine_tuning")
_Resource: Any = AsyncVectorStores.__mro__[1]
MESSAGES = [{"role": "user", "content": QUESTION}]
NOT_OFFERED = {
    "responses.cancel",
    "responses.compact",
    "responses.delete",
    "responses.input_items.list",
    "responses.input_tokens.count",
    "responses.retrieve",
    "chat.completions.delete",
    "chat.completions.list",
    "chat.completions.messages.list",
    "chat.completions.retrieve",
    "chat.completions.update",
    "conversations.create",
    "conversations.delete",
    "conversations.items.create",
    "conversations.items.delete",
    "conversations.items.list",
    "conversations.items.retrieve",
    "conversations.retrieve",
    "conversations.update",
    "fine_tuning.alpha.graders.run",
    "fine_tuning.alpha.graders.validate",
    "fine_tuning.checkpoints.permissions.create",
    "fine_tuning.checkpoints.permissions.delete",
    "fine_tuning.checkpoints.permissions.list",
    "fine_tuning.checkpoints.permissions.retrieve",
    "uploads.cancel",
    "uploads.complete",
    "uploads.create",
    "uploads.parts.create",
    "uploads.upload_file_chunked",
}
# Not one call and its answer: tested below.
APART = {"responses.connect", "responses.stream", "chat.completions.stream"}
# A job takes a trainer: tests/serving/test_fine_tuning.py.
TUNING = {
    f"fine_tuning.jobs.{name}" for name in ("cancel", "create", "list", "list_events", "pause", "resume", "retrieve")
}
TUNING.add("fine_tuning.jobs.checkpoints.list")
OFFERED = {
    "files": "content create delete list retrieve retrieve_content wait_for_processing",
    "vector_stores": "create delete list retrieve search update",
    "vector_stores.files": "content create create_and_poll delete list poll retrieve update upload upload_and_poll",
    "vector_stores.file_batches": "cancel create create_and_poll list_files poll retrieve upload_and_poll",
    "responses": "create parse",
    "chat.completions": "create parse",
}
WORKING = [f"{resource}.{name}" for resource, names in OFFERED.items() for name in names.split()]


@dataclass(frozen=True)
class Shop:
    """A gateway with one vector store, a file in it by way of a batch, and a file that is nowhere."""

    both: Tenants
    arguments: dict[str, Any]
    loose: str


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with tenants(tmp_path) as both:
        client = both.ours
        store, file = await filled(client)
        batch = await client.vector_stores.file_batches.create_and_poll(store, file_ids=[file])
        loose = (await client.files.create(file=("loose.md", TEXT), purpose="assistants")).id
        known: dict[str, Any] = {
            "vector_store_id": store,
            "file_id": file,
            "id": file,
            "batch_id": batch.id,
            "query": QUESTION,
        }
        known |= {"file": ("new.md", TEXT), "files": [("new.md", TEXT)], "purpose": "assistants", "attributes": {}}
        known |= {"model": "plain", "input": QUESTION, "messages": MESSAGES, "metadata": {}, "items": []}
        known |= dict.fromkeys(("response_id", "completion_id", "conversation_id", "item_id", "upload_id"), "x_1")
        known |= {"fine_tuned_model_checkpoint": "c", "permission_id": "p", "project_ids": ["p"], "grader": {}}
        known |= {"model_sample": "x"}
        known |= {"part_ids": ["p"], "data": b"x", "bytes": 1, "filename": "a.md", "mime_type": "text/plain"}
        yield Shop(both, known, loose)


def methods(resource: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name in dir(type(resource)):
        if name.startswith(("_", "with_")):
            continue
        value = getattr(resource, name)
        if isinstance(value, _Resource):
            yield from methods(value, f"{prefix}{name}.")
        elif callable(value):
            yield prefix + name, value


def surface(client: openai.AsyncOpenAI) -> dict[str, Any]:
    return dict(found for top in RESOURCES for found in methods(getattr(client, top), f"{top}."))


async def call(shop: Shop, name: str) -> Any:
    method = surface(shop.both.ours)[name]
    known = dict(shop.arguments)
    if name in ("vector_stores.files.create", "vector_stores.files.create_and_poll"):
        known["file_id"] = shop.loose
    if name in ("vector_stores.file_batches.create", "vector_stores.file_batches.create_and_poll"):
        return await method(known["vector_store_id"], file_ids=[known["file_id"]])
    if name == "uploads.upload_file_chunked":
        return await method(file=TEXT, filename="a.md", bytes=len(TEXT), mime_type="text/plain", purpose="assistants")
    wanted = {each.name: each for each in inspect.signature(method).parameters.values()}
    needed = {each for each, how in wanted.items() if how.default is how.empty and how.kind is not how.VAR_KEYWORD}
    if name.startswith("responses."):
        needed |= {"model", "input"} & set(wanted)
    return await method(**{each: known[each] for each in needed})


def test_every_method_of_the_sdk_is_decided() -> None:
    client = openai.AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="none")
    decided = [*WORKING, *NOT_OFFERED, *APART, *TUNING]
    assert sorted(surface(client)) == sorted(decided)


@pytest.mark.filterwarnings("ignore:The `.content:DeprecationWarning")
async def test_what_is_offered_works(shop: Shop) -> None:
    removing = {"files.delete", "vector_stores.delete", "vector_stores.files.delete"}
    last = sorted(removing, key=["vector_stores.files.delete", "vector_stores.delete", "files.delete"].index)
    for name in [*(each for each in WORKING if each not in removing), *last]:
        try:
            answer = await call(shop, name)
        except openai.APIStatusError as error:
            pytest.fail(f"{name}: {error.status_code} {error.message}")
        assert answer is not None, name
        if name in removing:
            assert answer.deleted


@pytest.mark.filterwarnings("ignore:Retrieve is deprecated:DeprecationWarning")
@pytest.mark.parametrize("who", ["ours", "nobody"])
async def test_what_is_not_offered_says_why(shop: Shop, who: str) -> None:
    if who == "nobody":
        shop.both.ours.api_key = "wrong"
    for name in sorted(NOT_OFFERED):
        with pytest.raises(openai.APIStatusError) as refused:
            await call(shop, name)
        if who == "nobody":
            assert refused.value.status_code == 401, name
            continue
        assert refused.value.status_code == 501, name
        assert refused.value.code == "not_implemented"
        assert len(refused.value.message.partition("is not offered: ")[2]) > 20, name
        assert refused.value.response.headers["x-should-retry"] == "false"


async def test_streams_and_sockets(shop: Shop) -> None:
    client = shop.both.user
    async with client.responses.stream(model="plain", input=QUESTION) as events:
        assert (await events.get_final_response()).status == "completed"
    async with client.chat.completions.stream(model="plain", messages=MESSAGES) as deltas:  # type: ignore[arg-type]  # plain dicts
        assert (await deltas.get_final_completion()).choices[0].finish_reason
    with pytest.raises(InvalidStatus) as refused:
        async with client.responses.connect():
            pass
    assert refused.value.response.status_code == 501
    assert b"there are no WebSockets" in (refused.value.response.body or b"")


@pytest.mark.parametrize(
    ("endpoint", "field", "value"),
    [
        ("chat", "audio", {"voice": "ash", "format": "wav"}),
        ("chat", "modalities", ["text", "audio"]),
        ("chat", "moderation", {"model": "omni"}),
        ("chat", "web_search_options", {}),
        ("chat", "functions", [{"name": "f"}]),
        ("responses", "moderation", {"model": "omni"}),
        ("responses", "image", {"quality": "low"}),
        ("responses", "prompt", {"id": "pmpt_1"}),
        ("responses", "context_management", [{"type": "compaction"}]),
    ],
)
async def test_what_would_be_ignored_is_not_offered(shop: Shop, endpoint: str, field: str, value: Any) -> None:
    client = shop.both.user
    with pytest.raises(openai.APIStatusError) as refused:
        if endpoint == "chat":
            messages: Any = MESSAGES
            await client.chat.completions.create(model="plain", messages=messages, extra_body={field: value})
        else:
            await client.responses.create(model="plain", input="hello", extra_body={field: value})
    assert (refused.value.status_code, refused.value.param) == (501, field)


async def test_text_as_the_only_modality_is_what_there_is(shop: Shop) -> None:
    messages: Any = MESSAGES
    answer = await shop.both.user.chat.completions.create(model="plain", messages=messages, modalities=["text"])
    assert answer.choices[0].message.content
