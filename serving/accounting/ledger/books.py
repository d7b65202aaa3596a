"""Bookkeeping: snapshots of the meter and records in, rows of the ledger out. No I/O, no clock of its own.

A run's bill is cut into periods. Whatever a period's records took is *settled* in it, also what they used before; so

    billed = settled + (what running requests have used) at its end - the same at its beginning
                     + (idle time that nobody has drawn) at its end - the same at its beginning

and over any number of periods the rows of their requests and these two balances add up to the bill.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

import orjson

from serving.accounting.cost import GpuPrice
from serving.accounting.ledger.database import Step
from serving.accounting.ledger.rows import (
    COUNTS,
    UNWRITTEN,
    Columns,
    Run,
    count,
    period_row,
    remainder_row,
    request_step,
    route_row,
    run_row,
    step,
)
from serving.accounting.meter import Bill
from serving.accounting.record import RequestRecord, Share, Unfinished

# A period ends after these seconds, sooner if something was settled in it: windows begin and end between periods.
QUIET_PERIOD_S, PERIOD_S = 60.0, 10.0
# Records that wait for a database that is away; beyond that the oldest become one row per period.
MOST_WAITING = 100_000
_MOST_RUNNING = 1000
_TOGETHER = 200  # requests in one step
_NO_BILL = Bill(0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The meter at one moment, with what was recorded since the last one. `at`: seconds since 1970, never less than
    the one before; `clock`: seconds of a monotonic clock."""

    at: float
    clock: float
    bill: Bill
    records: Sequence[RequestRecord]
    running: Sequence[Unfinished]


@dataclass(slots=True)
class _Period:
    seq: int
    began_at: float
    began: float
    start: Bill
    settled: Share = Share()
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTS, 0))


class Books:
    """Of one run, whose meter is `age_s` seconds old at the `first` snapshot."""

    def __init__(self, run_id: str, price: GpuPrice, first: Snapshot, age_s: float, *, simulated: bool) -> None:
        self._run_id, self._price, self._simulated = run_id, price, simulated
        self._started_at, self._seen_at = first.at - age_s, first.at
        self._bill = first.bill
        self._settled = Share()
        self._running: Sequence[Unfinished] = ()
        self._period = _Period(0, self._started_at, first.clock, _NO_BILL)
        self._waiting: list[tuple[int, RequestRecord]] = []
        self._periods: dict[int, Columns] = {}
        self._unwritten: dict[int, Share] = {}
        # How much of both the last `steps` had.
        self._tried, self._tried_unwritten = 0, dict[int, Share]()
        self._turn()

    def enter(self, snapshot: Snapshot) -> int:
        """Take a snapshot. Returns how many records had to be given up for want of room."""
        period = self._period
        for record in snapshot.records:
            self._waiting.append((period.seq, record))
            period.settled += record.share
            self._settled += record.share
            _count(record, period.counts)
        self._seen_at, self._bill, self._running = snapshot.at, snapshot.bill, snapshot.running
        self._turn()
        length = snapshot.clock - period.began
        if length >= (PERIOD_S if period.counts["queries"] else QUIET_PERIOD_S):
            self._period = _Period(period.seq + 1, snapshot.at, snapshot.clock, snapshot.bill)
        return self._make_room()

    def steps(self) -> Iterator[Step]:
        """What is to be written, in one transaction; until `written` is called it is asked for again. Each step is made
        when its turn comes: all together would take more memory than the rest of the gateway."""
        self._tried, self._tried_unwritten = len(self._waiting), dict(self._unwritten)
        for at in range(0, len(self._waiting), _TOGETHER):
            yield request_step(self._waiting[at : at + _TOGETHER], self._run_id)
        routes = (
            route_row(record.id, record.routing, self._price)
            for _, record in self._waiting
            if record.routing is not None
        )
        given_up = (
            remainder_row(UNWRITTEN, share, self._seen_at, (self._run_id, seq), self._price)
            for seq, share in self._unwritten.items()
        )
        yield from step("routes", routes)
        yield from step("requests", given_up)
        yield from step("periods", self._periods.values(), key=("run_id", "seq"))
        yield from step("runs", [self._run(None)], key=("run_id",))

    @property
    def last_tried(self) -> str | None:
        """Id of a request of the last `steps`: where it is in the database, all of them are."""
        return self._waiting[self._tried - 1][1].id if self._tried else None

    def written(self) -> None:
        """The last `steps` are in the database."""
        del self._waiting[: self._tried]
        self._unwritten = {
            seq: share for seq, share in self._unwritten.items() if share != self._tried_unwritten.get(seq)
        }
        self._tried, self._tried_unwritten = 0, {}
        # The last two stay: if others took us for dead meanwhile, they are written again.
        self._periods = dict(sorted(self._periods.items())[-2:])

    def closing(self) -> Iterator[Step]:
        """The last thing that is written: an end in good order."""
        yield from self.steps()
        yield from step("runs", [self._run("closed")], key=("run_id",))

    def _turn(self) -> None:
        """The open period's row as it is now."""
        period, bill = self._period, self._bill
        start = period.start
        grown = Bill(
            bill.billed_s - start.billed_s,
            bill.busy_s - start.busy_s,
            bill.idle_s - start.idle_s,
            bill.unallocated_idle_s,
            bill.host_s - start.host_s,
        )
        when = (period.began_at, self._seen_at)
        self._periods[period.seq] = period_row(self._run_id, period.seq, when, grown, period.settled, period.counts)

    def _run(self, ending: str | None) -> Columns:
        running = orjson.dumps([asdict(request) for request in self._running[:_MOST_RUNNING]]).decode()
        run = Run(self._run_id, self._started_at, self._seen_at, ending, self._simulated)
        return run_row(run, self._price, self._bill, self._settled, running)

    def _make_room(self) -> int:
        over = len(self._waiting) - MOST_WAITING
        if over <= 0:
            return 0
        for seq, record in self._waiting[:over]:
            self._unwritten[seq] = self._unwritten.get(seq, Share()) + record.share
        del self._waiting[:over]
        self._tried = max(0, self._tried - over)
        return over


def _count(record: RequestRecord, counts: dict[str, int]) -> None:
    # An embedding is no query: nothing is generated, and a hosted chat model's price says nothing about it.
    if record.endpoint == "embeddings":
        return
    counts["queries"] += 1
    counts["answered"] += record.outcome == "complete"
    counts["abstained"] += record.outcome == "abstained"
    counts["searched"] += record.times.search_s is not None
    counts["prompt_tokens"] += count(record.tokens.prompt)
    counts["cached_tokens"] += count(record.tokens.cached)
    counts["completion_tokens"] += count(record.tokens.completion)
