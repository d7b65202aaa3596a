"""Files and vector stores whose time is over, on a clock that the test sets."""

import sqlite3
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from retrieval.calibrator import Calibrator
from retrieval.chunking import Chunker
from retrieval.hashing import HashingEmbedder
from retrieval.pipeline import Retriever
from retrieval.reranking import Reranking
from retrieval.store import Store
from serving.auth import LOCAL_OPERATOR
from serving.errors import BadRequest, NotFound
from serving.knowledge import Knowledge
from serving.limits import Limits
from serving.sections import Retrieval
from serving.shelf import Measures, Shelf, Threads
from serving.stores.bases import DAY_S
from serving.stores.files import Upload
from serving.stores.service import Stores, open_stores
from serving.stores.sources import file_of, source_of
from tests.serving.shelf import Ready
from tests.serving.tenants import QUESTION, TEXT

LIMITS = Limits(8, 20, 65_536, 50)
POLICY = {"anchor": "last_active_at", "days": 2}


@dataclass
class Clock:
    """Unix seconds."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class Shop:
    """Stores on a clock."""

    stores: Stores
    knowledge: Knowledge
    clock: Clock

    async def upload(self, lifetime_s: int | None = None) -> str:
        upload = Upload("kettle.md", "assistants", len(TEXT), lifetime_s)
        return str((await self.stores.upload(LOCAL_OPERATOR, upload, BytesIO(TEXT)))["id"])

    async def filled(self, file: str, **fields: Any) -> str:
        store = (await self.stores.vector_stores.create(LOCAL_OPERATOR, fields))["id"]
        await self.stores.vector_stores.attach(LOCAL_OPERATOR, store, {"file_id": file})
        # Attributes wait for the ingestion.
        await self.stores.vector_stores.retag(LOCAL_OPERATOR, store, file, {"attributes": {"k": 1}})
        return str(store)

    async def search(self, store: str) -> list[Any]:
        fields = {"query": QUESTION}
        return list((await self.stores.search.search(LOCAL_OPERATOR, store, fields, LIMITS))["data"])


@asynccontextmanager
async def shop_in(home: Path, kind: type[Knowledge] = Knowledge) -> AsyncIterator[Shop]:
    embedder, clock = HashingEmbedder(), Clock()
    store = Store(home / "chroma", embedder.fingerprint, embedder.dimensions)
    retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
    with ThreadPoolExecutor(2) as executor:
        measures = Measures(
            Calibrator(home / "calibration", retriever, store, embedder),
            Reranking(home / "reranking", retriever, store, embedder.fingerprint, None),
        )
        threads, defaults = Threads(executor, executor), Retrieval.model_validate({})
        knowledge = kind(Ready(Shelf(retriever, store, embedder, measures)), embedder.name, threads, defaults)
        async with open_stores(home, knowledge, clock) as stores:
            yield Shop(stores, knowledge, clock)
    store.close()


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_in(tmp_path) as made:
        yield made


async def test_a_store_expires_after_its_last_use(shop: Shop) -> None:
    store = await shop.filled(await shop.upload(), name="kettles", expires_after=POLICY)
    for _ in range(3):  # every search puts it off
        shop.clock.now += 1.9 * DAY_S
        assert len(await shop.search(store)) == 1
    shop.clock.now += 2.1 * DAY_S
    with pytest.raises(BadRequest, match="expired") as refused:
        await shop.search(store)
    assert refused.value.code == "vector_store_expired"
    found = await shop.stores.vector_stores.retrieve(LOCAL_OPERATOR, store)
    assert (found["status"], found["file_counts"]["total"], found["usage_bytes"]) == ("expired", 0, 0)
    assert await shop.knowledge.names(LOCAL_OPERATOR) == []


async def test_the_name_of_an_expired_store_is_free(shop: Shop) -> None:
    old = await shop.filled(await shop.upload(), name="kettles", expires_after=POLICY)
    shop.clock.now += 3 * DAY_S
    await shop.stores.sweep()
    new = await shop.stores.vector_stores.create(LOCAL_OPERATOR, {"name": "kettles"})
    assert new["breakeven"]["knowledge"] == "kettles"
    assert new["id"] != old


async def test_a_sweep_removes_what_nobody_asks_for(shop: Shop, tmp_path: Path) -> None:
    file = await shop.upload(lifetime_s=3600)
    expiring = await shop.filled(file, name="kettles", expires_after=POLICY)
    lasting = await shop.filled(file, name="pots")
    shop.clock.now += 3601
    with pytest.raises(NotFound):  # out of sight at once
        await shop.stores.file(LOCAL_OPERATOR, file)
    await shop.stores.sweep()
    assert list((tmp_path / "files").iterdir()) == []
    assert await shop.search(lasting) == await shop.search(expiring) == []
    shop.clock.now += 3 * DAY_S
    await shop.stores.sweep()
    with sqlite3.connect(tmp_path / "files.db") as catalogue:
        rows = catalogue.execute("SELECT id FROM stores WHERE expired").fetchall()
    assert rows == [(expiring,)]


async def test_an_expired_store_takes_no_files_and_can_be_deleted(shop: Shop) -> None:
    store = await shop.filled(await shop.upload(), expires_after=POLICY)
    file = await shop.upload()
    shop.clock.now += 3 * DAY_S
    with pytest.raises(BadRequest, match="expired"):
        await shop.stores.vector_stores.attach(LOCAL_OPERATOR, store, {"file_id": file})
    with pytest.raises(BadRequest, match="expired"):
        await shop.stores.vector_stores.update(LOCAL_OPERATOR, store, {"expires_after": None})
    assert (await shop.stores.vector_stores.delete(LOCAL_OPERATOR, store))["deleted"]
    with pytest.raises(NotFound):
        await shop.stores.vector_stores.retrieve(LOCAL_OPERATOR, store)


async def test_a_store_deleted_while_it_is_filled_leaves_nothing(shop: Shop) -> None:
    files = [await shop.upload() for _ in range(5)]
    store = (await shop.stores.vector_stores.create(LOCAL_OPERATOR, {"name": "s", "file_ids": files}))["id"]
    await shop.stores.vector_stores.delete(LOCAL_OPERATOR, store)
    await shop.filled(files[0], name="other")  # the worker has gone through all that was waiting
    assert await shop.knowledge.names(LOCAL_OPERATOR) == ["other"]


def test_sources_and_files() -> None:
    file = "file-0123456789abcdef01234567"
    assert file_of(source_of(file, "a.md")) == (file, "a.md")
    ids = {file_of(source)[0] for source in ("a.md", "b/a.md", "file-1/a.md")}
    assert len(ids) == 3
    assert file_of("b/a.md")[1] == "b/a.md"
