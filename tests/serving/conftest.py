"""What tests of the ledger share: the two databases it may be in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.accounting.ledger.database import Database
from serving.accounting.ledger.postgres import PostgresDatabase
from serving.accounting.ledger.sqlite import SqliteDatabase
from tests.serving.ledgers import Open


@pytest.fixture(params=["sqlite", "postgresql"])
def open_ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Open]:
    """Opens the test's ledger as often as a test likes, each time as another process would."""
    url = None
    if request.param == "postgresql":
        cluster = request.getfixturevalue("postgres")
        cluster.run_sql("DROP SCHEMA IF EXISTS breakeven_ledger CASCADE")
        url = cluster.url()
    opened: list[Database] = []

    def opening() -> Database:
        opened.append(PostgresDatabase(url) if url else SqliteDatabase(tmp_path / "ledger.db"))
        return opened[-1]

    yield opening
    for database in opened:
        database.close()
