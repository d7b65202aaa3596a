"""Whatever happens, in whatever order: over any window the parts of the bill add up to it."""

import tempfile
import threading
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from serving.accounting.cost import GpuPrice
from serving.accounting.engine_rates import engine_rates
from serving.accounting.ledger.database import Step, Unwritten
from serving.accounting.ledger.export import lines
from serving.accounting.ledger.sqlite import SqliteDatabase
from serving.accounting.ledger.statement import Statement, statement
from serving.accounting.record import Outcome, Tokens
from serving.accounting.stages import STAGES
from tests.serving.books import PRICE, Clock, Job, Process

ALWAYS = (0.0, 1e12)
OUTCOMES = st.sampled_from(["complete", "abstained", "error", "cancelled"])
LONGEST_GAP_S = 60.0
DEAR = GpuPrice("dear", (), Decimal("36"), "test", "2026-01-01", "assumed")


def check(found: Statement, billed_usd: float | None = None) -> None:
    bound = abs(found.billed_usd) / 1000 + Decimal("1e-7")
    assert abs(found.difference_usd) <= bound, found
    assert found.billed_s == pytest.approx(found.busy_s + found.host_s + found.idle_s + found.down_s, abs=1e-6)
    if billed_usd is not None:
        assert float(found.billed_usd) == pytest.approx(billed_usd, rel=1e-3, abs=1e-7)


class Away(SqliteDatabase):
    """A database that is away now and then."""

    away = False

    def __init__(self, path: Path) -> None:
        self.tried = threading.Event()
        super().__init__(path)

    def write(self, steps: Iterable[Step]) -> None:
        self.tried.set()
        if self.away:
            raise Unwritten("away")
        super().write(steps)


class Bills(RuleBasedStateMachine):
    """Gateways that answer, retrieve, abstain, fail, stop, are killed and start again, over one ledger."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="breakeven-books-")
        self.day, self.clock = Clock(), Clock(50.0)
        self.jobs: list[Job] = []
        self.owed_usd = 0.0  # of all lives, by our own sums
        self.lives = 0
        self.marks = [self.day()]
        self.seen = -1e12

    @initialize()
    def begin(self) -> None:
        self.start(PRICE)

    def start(self, price: GpuPrice) -> None:
        self.database = Away(Path(self.folder.name) / "ledger.db")
        self.process = Process(self.database, self.clock, self.day, price, longest_gap_s=LONGEST_GAP_S)
        self.began = self.known = self.clock()
        self.bill_gap(price)
        self.latest = self.day()
        self.alive = True
        self.lives += 1

    def bill_gap(self, price: GpuPrice) -> None:
        """Since any gateway was seen in the ledger, by its own clock that is never set back."""
        gap = self.day() - self.seen
        if 0 < gap <= LONGEST_GAP_S:
            self.owed_usd += gap * float(price.usd_per_hour) / 3600
            self.seen = self.day()

    @precondition(lambda self: not self.alive)
    @rule(price=st.sampled_from([PRICE, DEAR]), down=st.floats(0, 100))
    def restart(self, price: GpuPrice, down: float) -> None:
        self.clock.now += down
        self.day.now += down
        self.start(price)

    @precondition(lambda self: self.alive)
    @rule(seconds=st.floats(0.01, 90))
    def wait(self, seconds: float) -> None:
        self.process.wait(seconds)

    @precondition(lambda self: self.alive)
    @rule(tenant=st.sampled_from(["a", "b\n'"]), retrieves=st.booleans(), seconds=st.floats(0.01, 20))
    def arrive(self, tenant: str, retrieves: bool, seconds: float) -> None:
        job = self.process.job(tenant=tenant)
        job.retrieve() if retrieves else job.enter()
        self.jobs.append(job)
        self.process.wait(seconds)

    @precondition(lambda self: self.alive and self.jobs)
    @rule(which=st.integers(0, 99))
    def go_on(self, which: int) -> None:
        job = self.jobs[which % len(self.jobs)]
        if job.host is not None:
            job.retrieved()
            job.enter()

    @precondition(lambda self: self.alive and self.jobs)
    @rule(which=st.integers(0, 99), outcome=OUTCOMES)
    def end(self, which: int, outcome: Outcome) -> None:
        self.jobs.pop(which % len(self.jobs)).end(outcome, Tokens(prompt=10, completion=1))

    @precondition(lambda self: self.alive)
    @rule(prefill_s=st.floats(0, 1), decode_s=st.floats(0, 1))
    def engine_measures(self, prefill_s: float, decode_s: float) -> None:
        self.process.meter.rates = engine_rates(7, (0.0, prefill_s, decode_s), 70, 7) or self.process.meter.rates

    @precondition(lambda self: self.alive)
    @rule()
    def tick(self) -> None:
        self.database.tried.clear()
        self.latest = max(self.latest, self.day())
        self.process.sink.tick()
        if self.database.away:
            assert self.database.tried.wait(5)
            return
        assert self.process.sink.flush()
        self.known = self.clock()
        self.seen = max(self.seen, self.latest)
        self.marks.append(self.day())

    @precondition(lambda self: self.alive)
    @rule(away=st.booleans())
    def database_comes_and_goes(self, away: bool) -> None:
        self.database.away = away

    @precondition(lambda self: self.alive)
    @rule(seconds=st.floats(-5000, 5000))
    def somebody_sets_the_clock(self, seconds: float) -> None:
        self.day.now += seconds

    @precondition(lambda self: self.alive)
    @rule(ticked=st.booleans())
    def kill(self, ticked: bool) -> None:
        if ticked:
            self.tick()
        self.settle_life(self.known)  # what it did since its last tick is lost, and was not billed
        self.process.kill()

    @precondition(lambda self: self.alive)
    @rule()
    def stop(self) -> None:
        self.database_comes_and_goes(False)
        while self.jobs:
            self.jobs.pop().end("error")
        self.settle_life(self.clock())
        self.process.sink.close()
        self.seen = max(self.seen, self.latest, self.day())

    def settle_life(self, until: float) -> None:
        self.owed_usd += (until - self.began) * float(self.process.price.usd_per_hour) / 3600
        self.jobs.clear()
        self.alive = False

    @rule()
    def every_window_adds_up(self) -> None:
        database = self.process.database
        marks = sorted(self.marks)
        check(statement(database, *ALWAYS), None if self.alive else self.owed_usd)
        middle = marks[len(marks) // 2]
        parts = [statement(database, 0.0, middle), statement(database, middle, 1e12)]
        for part in parts:
            check(part)
        whole = statement(database, *ALWAYS)
        assert float(sum(part.billed_usd for part in parts)) == pytest.approx(float(whole.billed_usd))
        assert sum(part.requests for part in parts) == whole.requests

    def teardown(self) -> None:
        if self.lives and self.alive:
            self.stop()
        if self.lives:
            # The next start settles what was killed; then nothing is in progress any more.
            last = Process(SqliteDatabase(Path(self.folder.name) / "ledger.db"), self.clock, self.day)
            last.sink.close()
            found = statement(SqliteDatabase(Path(self.folder.name) / "ledger.db"), *ALWAYS)
            check(found, self.owed_usd)
            self.process = last
            self.every_window_adds_up()
            assert abs(found.in_progress_usd) < Decimal("1e-6")
            exported = list(lines(last.database, *ALWAYS))
            billed_usd = sum(Decimal(line["allocation_usd"]) for line in exported)
            by_stage = sum(Decimal(line[f"{stage}_usd"]) for line in exported for stage in STAGES)
            for whole in (billed_usd, by_stage):
                assert float(whole) == pytest.approx(float(found.billed_usd), rel=1e-3, abs=1e-7)
        self.folder.cleanup()


TestBills = Bills.TestCase
TestBills.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
