"""A vector store that is removed, by hand or by its expiry, while others list it, fill it, or remove it too."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from serving.auth import LOCAL_OPERATOR, Caller
from serving.errors import BadRequest, NotFound
from serving.knowledge import Knowledge
from serving.stores.bases import DAY_S
from serving.stores.files import Upload
from serving.stores.paging import Page
from tests.serving.tenants import TEXT
from tests.serving.test_expiry import POLICY, Shop, shop_in


class Slow(Knowledge):
    """Stands still before or after it has dropped a knowledge base, until it is told to go on; or before it takes in a
    document."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.stops_at = ""
        self.arrived, self.go_on = asyncio.Event(), asyncio.Event()

    async def _at(self, point: str) -> None:
        if self.stops_at == point:
            self.stops_at = ""
            self.arrived.set()
            await self.go_on.wait()

    async def drop(self, caller: Caller, knowledge: str) -> None:
        await self._at("before the drop")
        with suppress(NotFound):
            await super().drop(caller, knowledge)
        await self._at("after the drop")

    async def ingest(self, *given: Any) -> Any:
        await self._at("before the ingestion")
        return await super().ingest(*given)


def slow(shop: Shop) -> Slow:
    assert isinstance(shop.knowledge, Slow)
    return shop.knowledge


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    async with shop_in(tmp_path, Slow) as made:
        yield made


async def stores_of(shop: Shop) -> list[Any]:
    return list((await shop.stores.vector_stores.page(LOCAL_OPERATOR, Page(descending=False)))["data"])


async def settled(shop: Shop) -> list[str]:
    """Knowledge bases that there are once the worker has had its time."""
    for _ in range(50):
        await asyncio.sleep(0.02)
    return await shop.knowledge.names(LOCAL_OPERATOR)


@pytest.mark.parametrize("point", ["before the drop", "after the drop"])
async def test_nothing_is_attached_to_a_store_that_is_being_deleted(shop: Shop, point: str) -> None:
    store = await shop.filled(await shop.upload(), name="kettles")
    second = await shop.upload()
    slow(shop).stops_at = point
    deleting = asyncio.create_task(shop.stores.vector_stores.delete(LOCAL_OPERATOR, store))
    await slow(shop).arrived.wait()
    with pytest.raises((BadRequest, NotFound)):
        await shop.stores.vector_stores.attach(LOCAL_OPERATOR, store, {"file_id": second})
    assert await settled(shop) == (["kettles"] if point == "before the drop" else [])
    assert [each["id"] for each in await stores_of(shop)] == [store]
    slow(shop).go_on.set()
    assert (await deleting)["deleted"]
    assert await stores_of(shop) == []
    assert await settled(shop) == []


async def test_a_file_in_work_does_not_outlive_its_store(shop: Shop) -> None:
    upload = Upload("kettle.md", "assistants", len(TEXT), None)
    file = str((await shop.stores.upload(LOCAL_OPERATOR, upload, BytesIO(TEXT)))["id"])
    store = (await shop.stores.vector_stores.create(LOCAL_OPERATOR, {"name": "kettles"}))["id"]
    slow(shop).stops_at = "before the ingestion"
    await shop.stores.vector_stores.attach(LOCAL_OPERATOR, store, {"file_id": file})
    await slow(shop).arrived.wait()
    slow(shop).arrived.clear()
    working, slow(shop).go_on = slow(shop).go_on, asyncio.Event()
    slow(shop).stops_at = "after the drop"
    deleting = asyncio.create_task(shop.stores.vector_stores.delete(LOCAL_OPERATOR, store))
    await slow(shop).arrived.wait()
    working.set()  # what it ingests now comes after the drop and before the store is gone
    await settled(shop)
    slow(shop).go_on.set()
    await deleting
    assert await settled(shop) == []
    assert await stores_of(shop) == []


async def test_a_store_that_expires_is_listed_once(shop: Shop) -> None:
    store = await shop.filled(await shop.upload(), name="kettles", expires_after=POLICY)
    shop.clock.now += 3 * DAY_S
    slow(shop).stops_at = "before the drop"
    sweeping = asyncio.create_task(shop.stores.sweep())
    await slow(shop).arrived.wait()
    assert [each["id"] for each in await stores_of(shop)] == [store]
    slow(shop).go_on.set()
    await sweeping
    assert [(each["id"], each["status"]) for each in await stores_of(shop)] == [(store, "expired")]
    assert await settled(shop) == []


async def test_an_expiry_that_was_broken_off_is_finished_by_the_next(shop: Shop) -> None:
    for fields in ({"name": "kettles"}, {}):
        await shop.filled(await shop.upload(), expires_after=POLICY, **fields)
    shop.clock.now += 3 * DAY_S
    slow(shop).stops_at = "before the drop"
    sweeping = asyncio.create_task(shop.stores.sweep())
    await slow(shop).arrived.wait()
    sweeping.cancel()
    await asyncio.gather(sweeping, return_exceptions=True)
    await shop.stores.sweep()
    assert await settled(shop) == []
    new = await shop.stores.vector_stores.create(LOCAL_OPERATOR, {"name": "kettles"})
    assert new["breakeven"]["knowledge"] == "kettles"


async def test_two_who_delete_do_not_take_what_came_after(shop: Shop) -> None:
    store = await shop.filled(await shop.upload(), name="kettles")
    slow(shop).stops_at = "before the drop"
    late = asyncio.create_task(shop.stores.vector_stores.delete(LOCAL_OPERATOR, store))
    await slow(shop).arrived.wait()
    quick = asyncio.create_task(shop.stores.vector_stores.delete(LOCAL_OPERATOR, store))
    await asyncio.sleep(0.2)  # as far as it comes
    new = asyncio.create_task(refilled(shop, {store}))
    await asyncio.sleep(0.5)
    slow(shop).go_on.set()
    await asyncio.gather(late, quick)
    again = await new
    assert len(await shop.search(again)) == 1
    assert [each["id"] for each in await stores_of(shop)] == [again]


async def refilled(shop: Shop, old: set[str]) -> str:
    """A store of the same name, once the name is free."""
    while old & {each["id"] for each in await stores_of(shop)}:  # noqa: ASYNC110  # no event for it
        await asyncio.sleep(0.01)
    return await shop.filled(await shop.upload(), name="kettles")
