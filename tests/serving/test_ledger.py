"""The ledger, in SQLite and in PostgreSQL: what was written is there, what was killed is settled, old ones are kept."""

import sqlite3
import threading
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest

from serving.accounting.ledger.database import LedgerError, Step, Unwritten
from serving.accounting.ledger.importing import import_file
from serving.accounting.ledger.opening import existing_database
from serving.accounting.ledger.queries import spent
from serving.accounting.ledger.retention import Retention
from serving.accounting.ledger.scaling import Change, changes, note
from serving.accounting.ledger.schema import VERSION
from serving.accounting.ledger.sqlite import SqliteDatabase
from serving.accounting.ledger.statement import statement
from tests.serving.books import Clock, Process
from tests.serving.ledgers import Open


def test_what_each_key_spent_since_then(open_ledger: Open) -> None:
    process = Process(open_ledger())
    process.ask(2.0, key_id="early")
    process.wait(100)
    since = process.day()
    process.ask(2.0, tenant="acme", key_id="k1")
    process.ask(3.0, tenant="acme", key_id="k1")
    process.ask(4.0, tenant="o'hara\n", key_id='k"2')
    process.written()
    idle = {job.key_id: job.share.idle_s for job in process.records}
    assert idle["k1"] > 0
    found = spent(process.database, since)
    assert set(found) == {("acme", "k1"), ("o'hara\n", 'k"2')}
    shares = [record.share for record in process.records if record.key_id == "k1"]
    usd = sum((share.busy_s + share.idle_s) * 0.001 for share in shares)
    assert found["acme", "k1"] == pytest.approx(Decimal(usd), rel=Decimal("1e-6"))
    assert spent(process.database, process.day() + 1) == {}


def test_names_that_no_database_can_hold_are_mended_and_written(open_ledger: Open) -> None:
    process = Process(open_ledger())
    for name in ("nul\0", "half \ud800 pair", "x" * 100_000, "'; DROP TABLE requests; --", "%s ? $1"):
        process.ask(tenant=name, key_id=name, model=name)
    process.written()
    rows = process.database.rows("SELECT tenant FROM requests ORDER BY started_at")
    assert [len(tenant) for (tenant,) in rows] == [4, 11, 256, 26, 7]


def test_a_killed_process_owes_nothing_and_the_next_start_says_so(
    open_ledger: Open, caplog: pytest.LogCaptureFixture
) -> None:
    first = Process(open_ledger())
    first.ask(2.0)
    running = first.job(tenant="slow", key_id="k9")
    running.enter()
    first.wait(5.0)
    first.written()
    first.kill()
    second = Process(open_ledger())
    assert "1 requests that ran ($0.0050000000) are entered as lost" in caplog.text
    rows = second.database.rows("SELECT tenant, key_id, busy_s, request_id FROM requests WHERE outcome = 'lost'")
    assert rows == [("slow", "k9", pytest.approx(5.0), running.id)]
    owed = second.database.rows("SELECT SUM(busy_s) - SUM(settled_busy_s) FROM periods")
    assert owed[0][0] == pytest.approx(0)
    caplog.clear()
    Process(open_ledger())
    assert "killed" not in caplog.text


class Deaf(SqliteDatabase):
    """Writes, and then loses the connection before it hears so."""

    deaf = False

    def __init__(self, path: Path) -> None:
        self.failed = threading.Event()
        super().__init__(path)

    def write(self, steps: Iterable[Step]) -> None:
        super().write(steps)
        if self.deaf:
            self.deaf = False
            self.failed.set()
            raise Unwritten("the connection was lost")


def test_what_was_written_without_a_word_is_not_written_twice(tmp_path: Path) -> None:
    database = Deaf(tmp_path / "ledger.db")
    process = Process(database)
    for _ in range(3):
        process.ask(1.0)
        database.deaf = True
        process.sink.tick()
        assert database.failed.wait(5)
        database.failed.clear()
        process.ask(2.0)
        process.written()
    process.sink.close()
    found = statement(SqliteDatabase(tmp_path / "ledger.db"), 0.0, 1e12)
    assert (found.requests, found.billed_s) == (6, pytest.approx(9.0))
    assert abs(found.difference_usd) < Decimal("1e-6")


def test_two_living_gateways_leave_each_other_alone(open_ledger: Open) -> None:
    first, second = Process(open_ledger()), Process(open_ledger())
    for process in (first, second):
        process.ask(3.0, key_id=process.sink.run_id[:6])
        process.job().enter()
        process.wait(1.0)
        process.written()
    third = Process(open_ledger())
    assert third.database.rows("SELECT COUNT(*) FROM requests WHERE outcome = 'lost'") == [(0,)]
    assert len(spent(third.database, 0.0)) == 2
    assert third.database.rows("SELECT COUNT(*) FROM runs WHERE ending IS NULL")[0][0] >= 2


def test_a_clock_that_goes_back_loses_nothing(open_ledger: Open) -> None:
    process = Process(open_ledger())
    for _ in range(3):
        process.ask(4.0)
        process.day.now -= 1000
        process.written()
    process.sink.close()
    billed, rows = open_ledger().rows(
        "SELECT SUM(billed_s), (SELECT SUM(busy_s + idle_s + host_s) FROM requests) FROM periods"
    )[0]
    assert billed == pytest.approx(12.0)
    assert rows == pytest.approx(12.0)
    assert open_ledger().rows("SELECT COUNT(*) FROM periods WHERE ended_at < began_at") == [(0,)]


def test_old_periods_go_with_their_requests(open_ledger: Open) -> None:
    process = Process(open_ledger())
    for _ in range(4):
        process.ask(30.0)
        process.written()
        process.wait(86_400)
        process.written()
    process.sink.close()
    database = open_ledger()
    Retention(days=2.5).apply(database, process.day())
    left = database.rows("SELECT COUNT(*) FROM requests")[0][0]
    assert left == 2
    orphans = "SELECT COUNT(*) FROM requests WHERE NOT EXISTS (SELECT 1 FROM periods WHERE seq = requests.period)"
    assert database.rows(orphans) == [(0,)]


def test_what_a_newer_version_wrote_is_left_alone(tmp_path: Path) -> None:
    SqliteDatabase(tmp_path / "ledger.db").close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(LedgerError, match="newer Breakeven"):
        SqliteDatabase(tmp_path / "ledger.db")


def test_what_is_no_ledger_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("the only copy of my thesis" * 100)
    with pytest.raises(LedgerError, match="move it away"):
        SqliteDatabase(tmp_path / "ledger.db")
    assert (tmp_path / "ledger.db").read_text().startswith("the only copy")
    assert existing_database(tmp_path / "nowhere", None) is None


def test_a_ledger_of_the_first_version_keeps_every_row(tmp_path: Path) -> None:
    old = Path(__file__).with_name("ledger_v1.sql").read_text()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.executescript(old)
        before = database.execute("SELECT request_id, busy_s, allocation_usd FROM requests ORDER BY 1").fetchall()
    process = Process(SqliteDatabase(tmp_path / "ledger.db"), day=Clock(2_000_000_000.0))
    process.ask(1.0)
    process.sink.close()
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        kept = database.execute(
            "SELECT request_id, busy_s, allocation_usd FROM requests WHERE run_id = 'old' AND outcome != 'lost' "
            "ORDER BY 1"
        ).fetchall()
        assert kept == before
        # The second of busy time that no row had (its request ran when the process was killed) is nobody's now.
        lost = database.execute("SELECT tenant, busy_s FROM requests WHERE outcome = 'lost'").fetchall()
        assert lost == [("-", pytest.approx(1.0))]
        sums = "SELECT SUM(billed_s), SUM(settled_busy_s), SUM(settled_idle_s) + MAX(pool_s) FROM periods WHERE seq = 0"
        assert database.execute(sums + " AND run_id = 'old'").fetchone() == (20.0, 5.0, 15.0)
        assert database.execute("SELECT route_s, ended_at FROM requests WHERE request_id = 'req-2'").fetchone() == (
            0.5,
            1_760_000_012.0,
        )


def past(path: Path) -> None:
    """Two lives in a SQLite ledger: one that ended well, one that was killed."""
    first = Process(SqliteDatabase(path))
    for number in range(7):
        first.ask(2.0, tenant=f"t{number}")
        first.wait(5)
        first.written()
    first.sink.close()
    killed = Process(SqliteDatabase(path), day=first.day)
    killed.job(tenant="gone").enter()
    killed.wait(3)
    killed.written()
    killed.kill()


def test_a_ledger_file_is_taken_over_once_and_stays_as_it_is(
    open_ledger: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "home" / "ledger.db"
    past(path)
    into = open_ledger()
    own = Process(into)
    own.ask(1.0)
    own.written()
    assert import_file(path, into) == 8
    assert "2 runs with 8 requests" in caplog.text
    old = SqliteDatabase(path)
    whole = statement(old, 0.0, 1e12)
    found = statement(into, 0.0, 1e12)
    assert found.requests == whole.requests + 1
    assert float(found.billed_usd) == pytest.approx(float(whole.billed_usd) + 0.001)
    assert abs(found.difference_usd) < Decimal("1e-6")
    assert "gone" in {tenant for tenant, _ in spent(into, 0.0)}
    caplog.clear()
    assert import_file(path, into) == 0
    assert caplog.text == ""
    assert statement(into, 0.0, 1e12) == found
    # What was added to the file meanwhile comes, too: whoever goes back and forth loses nothing.
    again = Process(SqliteDatabase(path))
    again.ask(2.0)
    again.sink.close()
    assert import_file(path, into) == 1
    assert import_file(path.with_name("none.db"), into) == 0
    assert not path.with_name("none.db").exists()


def test_the_fleets_changes_are_taken_over_once_and_grow_old(open_ledger: Open, tmp_path: Path) -> None:
    path, into = tmp_path / "home" / "ledger.db", open_ledger()
    made = [Change(1_000_000.1 + 86_400 * day, "g", day, 2, day / 3) for day in range(4)]
    with closing(SqliteDatabase(path)) as old:
        for change in made:
            note(old, change)
    own = Change(1_000_000.1 + 86_400, "another", 1, 1, 1.0)
    note(into, own)
    for _ in range(2):
        import_file(path, into, since=1_000_001)
        assert sorted(changes(into, 0.0, 1e12), key=lambda each: (each.at, each.gateway)) == [own, *made[1:]]
    Retention(days=1.5).apply(into, made[3].at)
    assert changes(into, 0.0, 1e12) == made[2:]


def test_a_run_whose_import_was_broken_off_is_taken_anew(open_ledger: Open, tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.db"
    past(path)
    into = open_ledger()
    import_file(path, into)
    whole = statement(into, 0.0, 1e12)
    # As a kill leaves it: some rows, and no run.
    into.write([("DELETE FROM runs", [()]), ("DELETE FROM periods WHERE seq > ?", [(0,)])])
    assert statement(into, 0.0, 1e12).requests == 0
    assert import_file(path, into) == 8
    assert statement(into, 0.0, 1e12) == whole


def test_runs_that_live_or_are_too_old_are_not_taken_over(open_ledger: Open, tmp_path: Path) -> None:
    path = tmp_path / "home" / "ledger.db"
    past(path)
    living = Process(SqliteDatabase(path))
    living.ask(1.0)
    living.written()
    into = open_ledger()
    assert import_file(path, into, since=2e6) == 0
    assert import_file(path, into) == 8
    living.sink.close()
