"""A file that a fault comes with fails after a few tries, and those behind it get their turn."""

import asyncio
from contextlib import closing
from io import BytesIO
from pathlib import Path

from serving.auth import LOCAL_OPERATOR
from serving.database.sqlite import SqliteDatabase
from serving.stores.attachments import Attachments, Batches
from serving.stores.bases import Bases
from serving.stores.blobs import blobs_of
from serving.stores.database import SCHEMA, Database
from serving.stores.files import Files, Upload
from serving.stores.vector_stores import VectorStores
from serving.stores.worker import Worker
from tests.serving.tenants import TEXT
from tests.serving.test_expiry import Shop, shop_in


async def nothing() -> None:
    """There is nothing to sweep."""


async def ingested(shop: Shop, home: Path, broken: bool) -> tuple[str, str]:
    """How it ended for a file that may be broken, and for one that was attached after it to the same store."""
    waiting = asyncio.Event()
    with closing(Database(SqliteDatabase(home / "files.db", SCHEMA))) as database:
        files, attachments = Files(database, blobs_of(database, home / "files")), Attachments(database)
        stores = VectorStores(
            *(Bases(database, shop.knowledge), files, attachments, Batches(database)),
            *(shop.knowledge, shop.clock, waiting.set),
        )
        upload = Upload("kettle.md", "assistants", len(TEXT), None)
        first, second = [await files.create("local", upload, BytesIO(TEXT), shop.clock()) for _ in range(2)]
        if broken:
            (home / "files" / first.id).unlink()
            (home / "files" / first.id).mkdir()
        store = (await stores.create(LOCAL_OPERATOR, {"file_ids": [first.id]}))["id"]
        shop.clock.now += 1
        await stores.attach(LOCAL_OPERATOR, store, {"file_id": second.id})
        worker = Worker(shop.knowledge, files, attachments, waiting, nothing, pause_s=0)
        worker.start()
        try:
            async with asyncio.timeout(10):
                while any(each.status == "in_progress" for each in await attachments.of_store(store)):  # noqa: ASYNC110  # no event for it
                    await asyncio.sleep(0.01)
        finally:
            await worker.stop()
        done = [await stores.file(LOCAL_OPERATOR, store, each.id) for each in (first, second)]
        if broken:
            assert done[0]["last_error"]["code"] == "server_error"
            assert "log" in done[0]["last_error"]["message"]
        return done[0]["status"], done[1]["status"]


async def test_it_fails_and_the_next_is_ingested(tmp_path: Path) -> None:
    async with shop_in(tmp_path) as shop:
        assert await ingested(shop, tmp_path / "whole", False) == ("completed", "completed")
        assert await ingested(shop, tmp_path / "broken", True) == ("failed", "completed")
