"""The time between two runs of a gateway: billed once, as what it is, and only where nobody else was there."""

from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path

import pytest

from serving.accounting.ledger.database import Database, Step, Unwritten
from serving.accounting.ledger.export import lines
from serving.accounting.ledger.gap import DOWN, bill_gap
from serving.accounting.ledger.sink import LedgerSink, Policy
from serving.accounting.ledger.sqlite import SqliteDatabase
from serving.accounting.ledger.statement import Statement, statement
from serving.accounting.meter import Meter
from tests.serving.books import PRICE, Clock, Process
from tests.serving.ledgers import Open

LONGEST_S = 900.0


def life(database: Database, day: Clock) -> Process:
    """Ten seconds of a gateway that bills gaps, ended well."""
    process = Process(database, day=day, longest_gap_s=LONGEST_S)
    process.ask(10.0)
    process.written()
    process.sink.close()
    return process


def whole(database: Database) -> Statement:
    found = statement(database, 0.0, 1e12)
    assert abs(found.difference_usd) < Decimal("1e-6")
    assert found.billed_s == pytest.approx(found.busy_s + found.host_s + found.idle_s + found.down_s)
    return found


def test_a_restart_is_billed_as_down_and_nobody_draws_from_it(open_ledger: Open) -> None:
    day = Clock()
    life(open_ledger(), day)
    day.now += 150
    second = life(open_ledger(), day)
    found = whole(open_ledger())
    assert (found.down_s, found.idle_s, found.billed_s) == pytest.approx((150.0, 0.0, 170.0))
    assert float(found.down_usd) == pytest.approx(0.15)
    assert second.records[0].share.idle_s == 0
    assert second.sink.down_s == pytest.approx(150.0)
    (down,) = [line for line in lines(open_ledger(), 0.0, 1e12) if line["outcome"] == DOWN]
    assert float(down["allocation_usd"]) == pytest.approx(0.15)
    # A window in the middle of it has its part.
    middle = second.records[0].started_at - 80
    assert 60 <= statement(open_ledger(), 0.0, middle).down_s <= 150
    assert statement(open_ledger(), 0.0, middle).down_s + statement(open_ledger(), middle, 1e12).down_s == (
        pytest.approx(150.0)
    )


@pytest.mark.parametrize(("gap_s", "down_s"), [(LONGEST_S, LONGEST_S), (LONGEST_S + 0.1, 0.0), (-50.0, 0.0)])
def test_a_machine_that_was_given_back_bills_nothing(open_ledger: Open, gap_s: float, down_s: float) -> None:
    day = Clock()
    life(open_ledger(), day)
    day.now += gap_s
    life(open_ledger(), day)
    assert whole(open_ledger()).down_s == pytest.approx(down_s)


def test_while_another_gateway_lives_nothing_is_down(open_ledger: Open) -> None:
    day = Clock()
    other = Process(open_ledger(), day=day, longest_gap_s=LONGEST_S)
    other.written()
    day.now += 30
    life(open_ledger(), day)
    assert whole(open_ledger()).down_s == 0
    other.sink.close()


class Overtaken(SqliteDatabase):
    """Another gateway bills the same gap between this one's look and its write."""

    def __init__(self, path: Path, other: Callable[[], object]) -> None:
        super().__init__(path)
        self._other: Callable[[], object] | None = other

    def write(self, steps: Iterable[Step]) -> None:
        if (other := self._other) is not None:
            self._other = None
            other()
        super().write(steps)


def test_two_that_start_together_bill_it_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    day = Clock()
    life(SqliteDatabase(path), day)
    ended_at = day.now

    def bill(database: Database, gap_s: float) -> float:
        return bill_gap(database, PRICE, ended_at + gap_s, LONGEST_S, 2, simulated=True)

    overtaken = Overtaken(path, lambda: bill(SqliteDatabase(path), 140))
    assert bill(overtaken, 70) == pytest.approx(140)  # of two accelerators
    assert whole(SqliteDatabase(path)).down_s == pytest.approx(140)
    assert bill(SqliteDatabase(path), 70) == 0


def test_a_killed_run_and_starts_that_die_at_once_leave_no_hole(open_ledger: Open) -> None:
    day = Clock()
    process = Process(open_ledger(), day=day, longest_gap_s=LONGEST_S)
    process.ask(5.0)
    process.written()
    process.wait(0.4)
    process.kill()
    day.now += 100
    Process(open_ledger(), day=day, longest_gap_s=LONGEST_S).kill()  # before it has written anything
    day.now += 100
    life(open_ledger(), day)
    found = whole(open_ledger())
    assert found.down_s == pytest.approx(200.4)
    assert found.billed_s == pytest.approx(5 + 200.4 + 10)


class CutOff(SqliteDatabase):
    """A gateway that lives and cannot reach its ledger: its lock is gone, as with a connection to PostgreSQL."""

    cut = False

    def write(self, steps: Iterable[Step]) -> None:
        if self.cut:
            raise Unwritten("away")
        super().write(steps)


def test_a_gateway_taken_for_dead_takes_the_gap_back(tmp_path: Path) -> None:
    path, day = tmp_path / "ledger.db", Clock()
    reached = CutOff(path)
    living = Process(reached, day=day, longest_gap_s=LONGEST_S)
    living.ask(10.0)
    living.written()
    reached.cut = True
    living.wait(30.0)
    living.sink.tick()
    assert not living.sink.flush(0.5)
    reached.release(living.sink.run_id)
    other = Process(SqliteDatabase(path), day=day, longest_gap_s=LONGEST_S)
    other.written()
    assert whole(SqliteDatabase(path)).down_s == pytest.approx(30.0)
    reached.cut = False
    living.written()
    found = whole(SqliteDatabase(path))
    assert (found.down_s, found.billed_s) == pytest.approx((0.0, 40.0))
    other.sink.close()
    living.sink.close()


def test_who_bills_it_pays_for_every_gateway_that_was_down(open_ledger: Open) -> None:
    day, clock = Clock(), Clock(50.0)
    life(open_ledger(), day)
    day.now += 100
    meter = Meter(clock=clock)
    meter.resize(1.5, 2)  # half of three engines
    sink = LedgerSink(
        open_ledger(),
        PRICE,
        meter,
        simulated=True,
        policy=Policy(longest_gap_s=LONGEST_S),
        time_of_day=day,
        clock=clock,
    )
    sink.close()
    assert whole(open_ledger()).down_s == sink.down_s == pytest.approx(300.0)
