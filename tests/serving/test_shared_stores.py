"""Two gateways over one PostgreSQL and one Chroma server: keys, files and vector stores are the same at both."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import pytest

from serving.auth import EVERYONE, MAX_AGE_S
from serving.sharing import RateLimits
from serving.stores.blobs import PART_BYTES
from tests.servers import Cluster
from tests.serving.gateways import Running, running, settings_for

TEXT = b"# Kettles\n\nThe blue kettle of the kitchen is descaled every June by the apprentice.\n"
QUESTION = "who descales the blue kettle?"
PATIENCE_S = 30.0


@dataclass
class Two:
    """Two gateways, and an operator of the tenant `acme` who asks them in turn or at once."""

    gateways: list[Running]
    http: httpx.AsyncClient
    key: str
    stacks: list[AsyncExitStack]

    async def call(self, at: int, method: str, path: str, key: str | None = None, **given: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return await self.http.request(method, f"{self.gateways[at].url}/v1{path}", headers=headers, **given)

    async def both(self, method: str, path: str, **given: Any) -> list[httpx.Response]:
        return list(await asyncio.gather(*(self.call(at, method, path, **given) for at in (0, 1))))

    async def upload(self, at: int, content: bytes = TEXT, name: str = "kettle.md") -> str:
        sent = await self.call(at, "POST", "/files", data={"purpose": "assistants"}, files={"file": (name, content)})
        assert sent.status_code == 200, sent.text
        return str(sent.json()["id"])

    async def store(self, at: int, **fields: Any) -> str:
        made = await self.call(at, "POST", "/vector_stores", json=fields)
        assert made.status_code == 200, made.text
        return str(made.json()["id"])

    async def ingested(self, at: int, store: str, file: str) -> dict[str, Any]:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = (await self.call(at, "GET", f"/vector_stores/{store}/files/{file}")).json()
                if found["status"] != "in_progress":
                    return dict(found)
                await asyncio.sleep(0.05)

    async def known(self, at: int, key: str) -> None:
        # Before it knows of any key it lets everybody in.
        async with asyncio.timeout(MAX_AGE_S):
            while not await self._knows(at, key):  # noqa: ASYNC110  # no event for it
                await asyncio.sleep(0.05)

    async def _knows(self, at: int, key: str) -> bool:
        told = [(await self.call(at, "GET", "/models", each)).status_code for each in ("bk-x", key)]
        return told == [401, 200]


@pytest.fixture
async def two(servers: tuple[str, Cluster], tmp_path: Path) -> AsyncIterator[Two]:
    shared = {"database_url": servers[1].url(), "retrieval": {"chroma_url": servers[0]}}
    async with AsyncExitStack() as stack:
        each = [await stack.enter_async_context(AsyncExitStack()) for _ in range(2)]
        homes = [settings_for(tmp_path / name, **shared) for name in ("one", "two")]
        gateways = [await one.enter_async_context(running(home)) for one, home in zip(each, homes, strict=True)]
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=60))
        key = gateways[0].gateway.keys.create("acme", [EVERYONE], "operator")
        found = Two(gateways, http, key, each)
        await found.known(1, key)
        yield found


async def test_files_and_vector_stores_of_one_are_the_other_s_at_once(two: Two) -> None:
    file = await two.upload(0)
    assert (await two.call(1, "GET", f"/files/{file}")).json()["filename"] == "kettle.md"
    read = await two.call(1, "GET", f"/files/{file}/content")
    assert (read.content, read.headers["content-length"]) == (TEXT, str(len(TEXT)))
    store = await two.store(1, name="kitchen")
    assert (await two.call(0, "POST", f"/vector_stores/{store}/files", json={"file_id": file})).status_code == 200
    assert (await two.ingested(1, store, file))["status"] == "completed"
    for at in (0, 1):
        found = (await two.call(at, "POST", f"/vector_stores/{store}/search", json={"query": QUESTION})).json()
        assert [each["file_id"] for each in found["data"]] == [file]
        listed = (await two.call(at, "GET", "/vector_stores")).json()["data"]
        assert [(each["id"], each["file_counts"]["completed"]) for each in listed] == [(store, 1)]
    batch = (await two.call(1, "POST", f"/vector_stores/{store}/file_batches", json={"file_ids": [file]})).json()["id"]
    assert (await two.call(0, "GET", f"/vector_stores/{store}/file_batches/{batch}")).json()["file_counts"][
        "total"
    ] == 1
    assert (await two.call(0, "DELETE", f"/files/{file}")).json()["deleted"]
    assert (await two.call(1, "GET", f"/files/{file}/content")).status_code == 404
    assert (await two.call(1, "GET", f"/vector_stores/{store}/files")).json()["data"] == []


async def test_tokens_per_minute_are_counted_over_both(two: Two) -> None:
    """Their bucket lacks what all answers together took, wherever they were asked for."""
    limit, ask = 600, {"model": "plain", "messages": [{"role": "user", "content": QUESTION}], "max_tokens": 12}
    rates = RateLimits(tokens_per_minute=limit)
    key = two.gateways[0].gateway.keys.create("acme", [EVERYONE], "user", rates=rates)
    await two.known(1, key)
    began = time.monotonic()
    asked = (two.call(number % 2, "POST", "/chat/completions", key, json=ask) for number in range(60))
    answers = await asyncio.gather(*asked)
    used = sum(each.json()["usage"]["total_tokens"] for each in answers if each.status_code == 200)
    refused = [each.json()["error"] for each in answers if each.status_code == 429]
    assert {error["type"] for error in refused} == {"tokens"}
    # Holds are larger than what was used: this many fit at once, and no more than fill the bucket were answered.
    assert len(answers) - len(refused) >= 10
    assert used <= limit + (time.monotonic() - began) * limit / 60
    buckets, account = two.gateways[1].gateway.runtime.rates._buckets, f"tokens:{key.split('-')[1]}"

    def filled() -> float:
        return (time.monotonic() - began) * limit / 60

    async with asyncio.timeout(10):
        # What a hold lost to the time it was held for stays taken, so a slow machine leaves the bucket lacking more.
        while (missing := (await buckets.take(account, limit, 0)).full_s * limit / 60) > used + 2 * filled() + 1:  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.01)
    assert missing >= used - filled() - 1


async def test_the_bytes_come_back_as_they_were(two: Two, servers: tuple[str, Cluster]) -> None:
    for content in (b"", b"x", bytes(range(256)) * (PART_BYTES // 128), b"y" * PART_BYTES):
        file = await two.upload(0, content, "data.txt")
        assert (await two.call(1, "GET", f"/files/{file}/content")).content == content
        await two.call(1, "DELETE", f"/files/{file}")
    assert servers[1].run_sql("SELECT count(*) FROM breakeven_gateway.file_parts") == [(0,)]


async def test_both_at_once_make_no_mess(two: Two) -> None:
    file, other = await two.upload(0), await two.upload(1, b"# Pots\n\nPots are on the shelf.\n", "pots.md")
    # The same name at the same time: one knowledge base has it.
    made = await two.both("POST", "/vector_stores", json={"name": "race"})
    ids = [each.json()["id"] for each in made if each.status_code == 200]
    assert ids and all(each.status_code in (200, 409) for each in made)
    names = [(await two.call(0, "GET", f"/vector_stores/{id}")).json()["breakeven"]["knowledge"] for id in ids]
    assert names.count("race") == 1 and len(set(names)) == len(ids)
    store = ids[0]
    # The same files at the same time, in opposite order.
    await asyncio.gather(
        two.call(0, "POST", f"/vector_stores/{store}/file_batches", json={"file_ids": [file, other]}),
        two.call(1, "POST", f"/vector_stores/{store}/file_batches", json={"file_ids": [other, file]}),
    )
    for each in (file, other):
        assert (await two.ingested(0, store, each))["status"] == "completed"
    found = (await two.call(0, "GET", "/breakeven/knowledge/" + names[0] + "/documents")).json()["data"]
    assert len(found) == 2
    # Deleted at the same time: gone, whoever was quicker.
    told = await two.both("DELETE", f"/files/{file}")
    assert Counter(each.status_code for each in told) in (Counter([200, 404]), Counter([200, 200]))
    told = await two.both("DELETE", f"/vector_stores/{store}")
    assert {each.status_code for each in told} <= {200, 404} and 200 in {each.status_code for each in told}
    assert [each.status_code for each in await two.both("GET", f"/vector_stores/{store}")] == [404, 404]
    # Attached while the store is deleted: refused, or gone with it.
    doomed = await two.store(0)
    attached, deleted = await asyncio.gather(
        two.call(0, "POST", f"/vector_stores/{doomed}/files", json={"file_id": other}),
        two.call(1, "DELETE", f"/vector_stores/{doomed}"),
    )
    assert (attached.status_code in (200, 404), deleted.status_code) == (True, 200)
    assert (await two.call(0, "GET", f"/vector_stores/{doomed}/files")).status_code == 404


async def test_another_tenant_sees_nothing_of_it_anywhere(two: Two) -> None:
    file, store = await two.upload(0), await two.store(0, name="secrets")
    await two.call(0, "POST", f"/vector_stores/{store}/files", json={"file_id": file})
    await two.ingested(0, store, file)
    spy = two.gateways[1].gateway.keys.create("globex", [EVERYONE], "operator")
    await two.known(0, spy)
    for at in (0, 1):
        for path in (f"/files/{file}", f"/files/{file}/content", f"/vector_stores/{store}", "/vector_stores/secrets"):
            assert (await two.call(at, "GET", path, spy)).status_code == 404
        for path in ("/files", "/vector_stores", "/fine_tuning/jobs"):
            assert (await two.call(at, "GET", path, spy)).json()["data"] == []
        theirs = (await two.call(at, "GET", "/breakeven/keys", spy)).json()["data"]
        assert {each["tenant"] for each in theirs} == {"globex"}
        for path in (f"/files/{file}", f"/vector_stores/{store}"):
            assert (await two.call(at, "DELETE", path, spy)).status_code == 404
        mine = await two.store(at)
        stolen = await two.call(at, "POST", f"/vector_stores/{mine}/files", spy, json={"file_id": file})
        assert stolen.status_code == 404


async def test_hostile_names_are_names(two: Two) -> None:
    hostile = ["'); DROP TABLE files; --", "%s%(x)s ? $1", "ключ 🔑", "a" * 256]
    for name, at in product(hostile, (0, 1)):
        store = await two.store(1 - at, name=name, metadata={name[:60]: name})
        found = (await two.call(at, "GET", f"/vector_stores/{store}")).json()
        assert (found["name"], found["metadata"]) == (name, {name[:60]: name})
        assert (await two.call(at, "GET", f"/files/file-{name[:40].replace('?', '')}")).status_code == 404

    for at in (0, 1):
        assert (await two.call(at, "POST", "/vector_stores", json={"name": "a\0b"})).status_code == 400
        assert (await two.call(at, "GET", "/files/file-%00")).status_code == 400


async def test_a_gateway_that_ends_leaves_its_work_to_the_other(two: Two) -> None:
    store = await two.store(1)
    files = [await two.upload(0, TEXT.replace(b"blue", b"blue %d" % n), f"kettle{n}.md") for n in range(6)]
    sent = await two.call(0, "POST", f"/vector_stores/{store}/file_batches", json={"file_ids": files})
    batch = sent.json()["id"]
    await two.stacks[0].aclose()
    for file in files:
        assert (await two.ingested(1, store, file))["status"] == "completed"
    found = (await two.call(1, "GET", f"/vector_stores/{store}/file_batches/{batch}")).json()
    assert (found["status"], found["file_counts"]["completed"]) == ("completed", 6)


async def test_postgresql_gone_and_back(two: Two, servers: tuple[str, Cluster]) -> None:
    file = await two.upload(0)
    servers[1].stop()
    try:
        for told in await two.both("GET", "/files"):
            assert (told.status_code, told.json()["error"]["type"]) == (503, "service_unavailable_error")
            assert "database_url" in told.json()["error"]["message"]
    finally:
        servers[1].start()
    async with asyncio.timeout(PATIENCE_S):
        while any(each.status_code != 200 for each in await two.both("GET", f"/files/{file}")):  # noqa: ASYNC110  # no event
            await asyncio.sleep(0.2)
    assert (await two.call(1, "GET", f"/files/{file}/content")).content == TEXT
