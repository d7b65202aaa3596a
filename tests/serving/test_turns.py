"""A turn that was taken is given back, whatever the database does next: what it was for must not wait for a restart."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from serving.auth import LOCAL_OPERATOR
from serving.database.protocol import Row
from serving.database.sqlite import SqliteDatabase
from serving.errors import StoreUnavailable
from serving.stores.attachments import Attachments
from serving.stores.database import SCHEMA, Database
from serving.tuning.job import parse
from serving.tuning.jobs import Jobs


class Faltering(SqliteDatabase):
    """Fails the first look after a turn was taken."""

    failed = False
    fails = False

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        if self.fails:
            self.fails, self.failed = False, True
            raise StoreUnavailable("gone for a moment")
        return super().rows(sql, values)

    def take(self, name: str) -> bool:
        taken = super().take(name)
        self.fails = taken and not self.failed
        return taken


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(Faltering(tmp_path / "files.db", SCHEMA))) as opened:
        yield opened


async def test_of_a_file_that_waits(database: Database) -> None:
    store = "INSERT INTO stores VALUES ('vs_1','local','books','books',NULL,'{}',0,0,NULL,0)"
    waiting = "INSERT INTO attachments VALUES ('vs_1','file-1','s','a1',0,'in_progress',NULL,NULL,'{}','[]',NULL)"
    await database.write((store, ()), (waiting, ()))
    attachments = Attachments(database)
    with pytest.raises(StoreUnavailable):
        await attachments.take_waiting("")
    found = await attachments.take_waiting("")
    assert found is not None
    assert found[0].file_id == "file-1"


async def test_of_a_job_that_waits(database: Database) -> None:
    jobs = Jobs(database)
    wanted = parse({"model": "base", "training_file": "file-1"}, 1)
    made = await jobs.create(LOCAL_OPERATOR.tenant, wanted, 0.0)
    with pytest.raises(StoreUnavailable):
        await jobs.take_next()
    assert await jobs.take_next() == made
