"""The gateway's records, in a SQLite file and in PostgreSQL: the same answers to the same statements."""

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import pytest

from retrieval.errors import StoreFailed, StoreUnreachable
from retrieval.postgres import Postgres
from serving.accounting.ledger.database import LedgerError
from serving.accounting.ledger.opening import open_database
from serving.budgets.shared import shared_purse
from serving.database.opening import shared_database, tables
from serving.database.postgres import PostgresDatabase
from serving.database.protocol import Contradiction, Database, Schema, Statement
from serving.errors import BadRequest, StoreUnavailable
from tests.servers import Cluster, free_port

SCHEMA = Schema(
    "CREATE TABLE IF NOT EXISTS parents (id TEXT PRIMARY KEY, at REAL, n INTEGER, data BLOB);"
    "CREATE TABLE IF NOT EXISTS children (id TEXT PRIMARY KEY, parent TEXT NOT NULL REFERENCES parents (id) "
    "ON DELETE CASCADE);"
)
LATER = Schema(SCHEMA.tables, later=(("parents", "note", "TEXT"),))
Open = Callable[[Schema], Database]


@pytest.fixture
def open_records(database_url: str | None, tmp_path: Path) -> Iterator[Open]:
    """Opens the same records as often as a test likes; each is a process of its own to the database."""
    with ExitStack() as stack:

        def reopen(schema: Schema) -> Database:
            shared = stack.enter_context(shared_database(database_url))
            return stack.enter_context(closing(tables(shared, tmp_path / "home" / "records.db", schema)))

        yield reopen


def put(id: str, n: int = 0) -> Statement:
    return "INSERT INTO parents (id, at, n, data) VALUES (?, ?, ?, ?)", (id, 1.5, n, b"\0\xff")


def test_what_is_written_is_read_as_it_was(open_records: Open) -> None:
    database = open_records(SCHEMA)
    wide = 2**53
    assert database.write([put("a", wide), put("ä 'x' %s ? --", 2)]) == 1
    assert [dict(row) for row in database.rows("SELECT * FROM parents WHERE id = ?", ("a",))] == [
        {"id": "a", "at": 1.5, "n": wide, "data": b"\0\xff"}
    ]
    assert open_records(SCHEMA).rows("SELECT id FROM parents WHERE n = ?", (2,))[0]["id"] == "ä 'x' %s ? --"
    assert database.write([("UPDATE parents SET n = n + 1 WHERE n < ?", (5,))]) == 1
    assert database.write([("DELETE FROM parents WHERE id = ?", ("nobody",))]) == 0


def test_a_transaction_is_whole_or_nothing(open_records: Open) -> None:
    database = open_records(SCHEMA)
    database.write([put("a")])
    with pytest.raises(Contradiction):
        database.write([put("b"), put("a")])
    with pytest.raises(Contradiction):
        database.write([put("c"), ("INSERT INTO children VALUES (?, ?)", ("x", "nobody"))])

    def broken() -> Iterator[Statement]:
        yield put("d")
        raise ValueError("the client left")

    with pytest.raises(ValueError, match="the client left"):
        database.write(broken())
    assert [row["id"] for row in database.rows("SELECT id FROM parents")] == ["a"]


def test_what_belongs_to_a_row_goes_with_it(open_records: Open) -> None:
    database = open_records(SCHEMA)
    database.write([put("a"), ("INSERT INTO children VALUES (?, ?)", ("x", "a"))])
    database.write([("DELETE FROM parents WHERE id = ?", ("a",))])
    assert database.rows("SELECT * FROM children") == []


def test_a_column_that_a_newer_gateway_adds_breaks_no_older_one(open_records: Open) -> None:
    older = open_records(SCHEMA)
    reader = older.apart()
    older.write([put("a")])
    seen = [older.rows("SELECT * FROM parents") and reader.rows("SELECT * FROM parents") for _ in range(20)]
    open_records(LATER)
    assert dict(older.rows("SELECT * FROM parents")[0]) == {**dict(seen[0][0]), "note": None}
    assert dict(reader.rows("SELECT * FROM parents")[0]) == {**dict(seen[0][0]), "note": None}


@pytest.mark.parametrize("hostile", ["a\0b", "\0", "\ud800"])
def test_what_is_no_text_is_refused_and_nothing_is_kept(open_records: Open, hostile: str) -> None:
    database = open_records(SCHEMA)
    with pytest.raises(BadRequest, match="no text"):
        database.write([put("a"), put(hostile)])
    with pytest.raises(BadRequest):
        database.rows("SELECT * FROM parents WHERE id = ?", (hostile,))
    assert database.rows("SELECT * FROM parents") == []


def test_a_column_that_came_later_is_added_once(open_records: Open) -> None:
    open_records(SCHEMA).write([put("a")])
    for _ in range(2):
        database = open_records(LATER)
        assert database.rows("SELECT note FROM parents") == [{"note": None}]


def test_a_column_that_another_process_is_adding_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "records.db"
    tables(None, file, SCHEMA).close()
    opened: list[Database] = []
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("ALTER TABLE parents ADD COLUMN note TEXT")
        thread = threading.Thread(target=lambda: opened.append(tables(None, file, LATER)))
        thread.start()
        thread.join(0.3)  # it has looked by now
        other.execute("COMMIT")
    thread.join(10)
    (database,) = opened
    assert database.rows("SELECT note FROM parents") == []
    database.close()


def test_what_is_read_apart_is_what_there_is(open_records: Open) -> None:
    database = open_records(SCHEMA)
    reader = database.apart()
    for id in "ab":
        database.write([put(id)])
        assert id in {row["id"] for row in reader.rows("SELECT id FROM parents")}
    with pytest.raises(StoreUnavailable):
        reader.rows("SELECT nothing FROM parents")
    with pytest.raises(BadRequest):
        reader.rows("SELECT * FROM parents WHERE id = ?", ("\0",))
    assert len(reader.rows("SELECT id FROM parents")) == 2


def test_a_reader_apart_outlives_its_connection(postgres: Cluster) -> None:
    postgres.empty()
    with shared_database(postgres.url()) as database:
        assert database is not None
        reader = database.apart()
        (before,) = reader.rows("SELECT pg_backend_pid() AS pid")
        postgres.run_sql("SELECT pg_terminate_backend(%(pid)s, 5000)", before)
        assert reader.rows("SELECT pg_backend_pid() AS pid") != [before]


def test_a_turn_is_one_task_s(open_records: Open) -> None:
    database = open_records(SCHEMA)
    assert [database.take("a"), database.take("a"), database.take("b")] == [True, False, True]
    database.release("a")
    assert database.take("a")


def test_writers_at_once_lose_nothing(open_records: Open) -> None:
    one, two = open_records(SCHEMA), open_records(SCHEMA)
    one.write([put("a"), put("b")])
    raise_both: list[Statement] = [("UPDATE parents SET n = n + 1 WHERE id = ?", (id,)) for id in "ab"]

    def work(database: Database, statements: list[Statement]) -> None:
        for _ in range(4):
            database.write(statements)

    # In opposite order: PostgreSQL finds the two in each other's way, and one tries again.
    orders = ((one, raise_both), (two, raise_both[::-1]))
    threads = [threading.Thread(target=work, args=each) for each in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {row["n"] for row in one.rows("SELECT n FROM parents")} == {8}


def test_a_damaged_file_is_a_503_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_bytes(b"no database, but long enough to look like one" * 100)
    with pytest.raises(StoreUnavailable, match=r"records\.db cannot be used"):
        tables(None, tmp_path / "records.db", SCHEMA)


def test_a_turn_ends_with_the_gateway_that_has_it(postgres: Cluster) -> None:
    with shared_database(postgres.url()) as one, shared_database(postgres.url()) as two:
        assert one is not None
        assert two is not None
        assert [one.take("a"), two.take("a")] == [True, False]
        # As a kill would: the server sees the connections end.
        postgres.run_sql("SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory'")
        assert [two.take("a"), one.take("a")] == [True, False]


def test_postgresql_gone_and_back(postgres: Cluster) -> None:
    postgres.empty()
    with shared_database(postgres.url()) as database:
        assert database is not None
        database.prepare(SCHEMA)
        database.write([put("a")])
        assert database.take("turn")
        postgres.stop()
        try:
            with pytest.raises(StoreUnavailable, match="database_url") as said:
                database.rows("SELECT 1")
            assert "only-for-tests" not in str(said.value)
        finally:
            postgres.start()
        assert [row["id"] for row in database.rows("SELECT id FROM parents")] == ["a"]
        assert database.take("other")


def test_nothing_at_that_address() -> None:
    with pytest.raises(StoreUnreachable, match="cannot be reached") as said:
        PostgresDatabase(f"postgresql://me:hidden@127.0.0.1:{free_port()}/x")
    assert "hidden" not in str(said.value)


UNREADABLE = "postgresql://me:hidden@[::1/x"


@pytest.mark.parametrize("connect", [PostgresDatabase, Postgres, partial(open_database, Path())])
def test_a_url_that_cannot_be_read_is_not_shown(connect: Callable[[str], object]) -> None:
    with pytest.raises((StoreUnreachable, StoreFailed, LedgerError), match="the URL") as said:
        connect(UNREADABLE)
    assert "hidden" not in str(said.value)


async def test_nor_by_the_budgets() -> None:
    with pytest.raises(StoreUnavailable, match="the URL") as said:
        async with shared_purse(UNREADABLE, 1.0):
            pytest.fail("it cannot be used")
    assert "hidden" not in str(said.value)
