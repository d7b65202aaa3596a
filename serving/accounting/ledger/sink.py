"""The ledger as a sink of the request record.

The request path appends to a list. Twice a second the event loop hands that list over, with the meter's state and what
is running, to one thread that writes it in one transaction: so the rows and the bill beside them always agree, and a
killed process loses at most the last second.
"""

import logging
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from serving.accounting.cost import GpuPrice
from serving.accounting.ledger.books import Books, Snapshot
from serving.accounting.ledger.database import Database, LedgerError, Step, Unwritten
from serving.accounting.ledger.gap import bill_gap, release_gaps
from serving.accounting.ledger.recovery import RELEASE_LOST, settle_dead_runs
from serving.accounting.ledger.retention import Retention
from serving.accounting.meter import Meter
from serving.accounting.record import RequestRecord

logger = logging.getLogger("breakeven.ledger")

TICK_S = 0.5
_CLOSE_S = 10.0
_THERE = "SELECT 1 FROM requests WHERE run_id = ? AND request_id = ?"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decided. `longest_gap_s`: up to which the time since the last run is billed."""

    retention: Retention | None = None
    longest_gap_s: float = 0.0


class LedgerSink:
    """Owns one writer thread from construction to `close`. Raises LedgerError; logs what killed processes left.

    `time_of_day` and `clock` are in seconds, since 1970 and since any moment. `down_s`: of the time before this run,
    what was billed, in seconds of an accelerator.
    """

    def __init__(
        self,
        database: Database,
        price: GpuPrice,
        meter: Meter,
        *,
        simulated: bool,
        policy: Policy = Policy(),
        time_of_day: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.database, self.run_id = database, uuid.uuid4().hex
        self._meter, self._retention = meter, policy.retention
        self._time_of_day, self._clock = time_of_day, clock
        self._at = 0.0
        self._records: list[RequestRecord] = []
        self._books = Books(self.run_id, price, self._snapshot(), meter.age_s, simulated=simulated)
        self._queue: queue.SimpleQueue[Snapshot | threading.Event | None] = queue.SimpleQueue()
        self._waiters: list[threading.Event] = []
        if not database.take(self.run_id):
            raise LedgerError(f"the run {self.run_id} is in the ledger already; start again")
        for said in settle_dead_runs(database):
            logger.warning("%s", said)
        began, longest_s = self._at - meter.age_s, policy.longest_gap_s
        # One gateway bills it for all that are down.
        accelerators = meter.accelerators * meter.sharers
        self.down_s = bill_gap(database, price, began, longest_s, accelerators, simulated=simulated)
        # If we were taken for dead meanwhile: we were not, and so nothing was down.
        self._alive = [(RELEASE_LOST, [(self.run_id,)]), *release_gaps(began, simulated=simulated)]
        self._failed = False
        self.given_up = 0
        self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)
        self._thread.start()

    @property
    def up(self) -> bool:
        """Whether the last write came through."""
        return not self._failed

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        self._records.append(record)

    def tick(self) -> None:
        """Hand over what there is; call it from the event loop, every TICK_S."""
        self._queue.put(self._snapshot())

    def flush(self, timeout_s: float = 5.0) -> bool:
        """Wait, in another thread than the writer's, until what was handed over is written. False if it is not."""
        written = threading.Event()
        self._queue.put(written)
        return written.wait(timeout_s)

    def close(self) -> None:
        """Write what is left and end the thread."""
        self.tick()
        self._queue.put(None)
        self._thread.join(timeout=_CLOSE_S)
        if self._thread.is_alive():
            logger.error("ledger: %s did not answer; what it has not taken is lost", self.database.place)
        self.database.close()

    def _snapshot(self) -> Snapshot:
        # A clock that is set back must not take a period's end before its beginning.
        self._at = max(self._at, self._time_of_day())
        records, self._records = self._records, []
        running = [request.unfinished() for request in tuple(self._meter.running_requests.values())]
        return Snapshot(self._at, self._clock(), self._meter.bill(), records, running)

    def _write_forever(self) -> None:
        going = True
        while going:
            going = self._enter_all(self._queue.get())
            self._write(self._books.steps if going else self._books.closing)
            if going and self._retention is not None:
                self._retention.apply(self.database, self._time_of_day())

    def _enter_all(self, item: Snapshot | threading.Event | None) -> bool:
        """This and what came while the last was written. False after the last of all."""
        while item is not None:
            if isinstance(item, threading.Event):
                self._waiters.append(item)
            elif given_up := self._books.enter(item):
                self.given_up += given_up
                logger.error("ledger: %s is away; %d records are kept as sums only", self.database.place, given_up)
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return True
        return False

    def _write(self, entries: Callable[[], Iterable[Step]]) -> None:
        if self._failed:
            self._look_for_the_last()
        steps = entries()
        try:
            # Whoever started while the database was away may have taken us for dead.
            self.database.write(chain(self._alive, steps) if self._failed else steps)
        except Unwritten as error:
            if not self._failed:
                logger.error("ledger: %s is away, records wait: %s", self.database.place, error)
            self._failed = True
            return
        if self._failed:
            logger.warning("ledger: %s is back, nothing is missing", self.database.place)
        self._failed = False
        self._books.written()
        for waiter in self._waiters:
            waiter.set()
        self._waiters.clear()

    def _look_for_the_last(self) -> None:
        # A connection that broke may have taken with it only the word that all was written.
        with suppress(LedgerError):
            last = self._books.last_tried
            if last is not None and self.database.rows(_THERE, (self.run_id, last)):
                self._books.written()
