"""A gateway's accounting without the gateway: jobs on a meter whose clock the test moves, a ledger, kills."""

from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from serving.accounting.cost import GpuPrice, request_cost
from serving.accounting.ledger.database import Database
from serving.accounting.ledger.sink import LedgerSink, Policy
from serving.accounting.meter import Meter
from serving.accounting.record import Outcome, RequestRecord, Share, Times, Tokens, Unfinished

PRICE = GpuPrice("test", (), Decimal("3.60"), "test", "2026-01-01", "assumed")  # a tenth of a cent a second


def request_record(share: Share, price: GpuPrice = PRICE, **fields: Any) -> RequestRecord:
    """A whole chat answer of acme's, apart from what `fields` say."""
    record = RequestRecord(
        id="r",
        started_at=0,
        endpoint="chat",
        model="plain",
        engine_model="plain",
        adapter=None,
        knowledge=None,
        tenant="acme",
        key_id="k1",
        stream=False,
        outcome="complete",
        status=200,
        error_code=None,
        passages=0,
        best_score=None,
        tokens=Tokens(prompt=10, completion=5),
        times=Times(0.0),
        share=share,
        cost=request_cost(share, price),
        simulated=True,
    )
    return replace(record, **fields)


class Clock:
    """A clock that the test moves."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Job:
    """A request, as far as the meter and the ledger see it."""

    process: "Process"
    id: str
    tenant: str = "acme"
    key_id: str = "k1"
    model: str = "plain"
    share: Share = Share()
    ticket: float | None = None
    host: float | None = None
    searched: bool = False

    def retrieve(self) -> None:
        self.process.meter.running_requests[self.id] = self
        self.host, self.searched = self.process.meter.begin_host(), True

    def retrieved(self) -> None:
        assert self.host is not None
        self.share += Share(host_s=self.process.meter.end_host(self.host))
        self.host = None

    def enter(self) -> None:
        self.process.meter.running_requests[self.id] = self
        self.ticket = self.process.meter.begin()

    def end(self, outcome: Outcome = "complete", tokens: Tokens | None = None) -> None:
        if self.host is not None:
            self.retrieved()
        if self.ticket is not None:
            self.share += self.process.meter.end(self.ticket, completed=outcome == "complete")
        self.process.meter.running_requests.pop(self.id, None)
        self.process.record(self, outcome, tokens or Tokens())

    def unfinished(self) -> Unfinished:
        meter = self.process.meter
        busy = self.share.busy_s + (0 if self.ticket is None else meter.used(self.ticket))
        host = self.share.host_s + (0 if self.host is None else meter.used_host(self.host))
        return Unfinished(
            self.id, self.process.day(), "chat", self.model, self.model, None, self.tenant, self.key_id, busy, host
        )


@dataclass
class Process:
    """One life of a gateway."""

    database: Database
    clock: Clock = field(default_factory=lambda: Clock(50.0))
    day: Clock = field(default_factory=Clock)
    price: GpuPrice = PRICE
    records: list[RequestRecord] = field(default_factory=list)
    longest_gap_s: float = 0.0
    jobs: int = 0

    def __post_init__(self) -> None:
        self.meter = Meter(clock=self.clock)
        clocks = {"time_of_day": self.day, "clock": self.clock}
        policy = Policy(longest_gap_s=self.longest_gap_s)
        self.sink = LedgerSink(self.database, self.price, self.meter, simulated=True, policy=policy, **clocks)

    def job(self, tenant: str = "acme", key_id: str = "k1", model: str = "plain") -> Job:
        self.jobs += 1
        return Job(self, f"{self.sink.run_id[:8]}-{self.jobs}", tenant, key_id, model)

    def ask(self, seconds: float = 1.0, tenant: str = "acme", key_id: str = "k1", model: str = "plain") -> Job:
        """A request that has the engine to itself."""
        job = self.job(tenant, key_id, model)
        job.enter()
        self.wait(seconds)
        job.end(tokens=Tokens(prompt=100, completion=10))
        return job

    def record(self, job: Job, outcome: Outcome, tokens: Tokens) -> None:
        apportioned = None
        if outcome == "complete" and self.meter.rates is not None:
            apportioned = self.meter.rates.prefill_of(job.share.busy_s, tokens)
        record = request_record(
            job.share,
            self.price,
            id=job.id,
            started_at=self.day() - 1,
            model=job.model,
            engine_model=job.model,
            tenant=job.tenant,
            key_id=job.key_id,
            outcome=outcome,
            tokens=tokens,
            times=Times(0.0, ended=1.0, search_s=0.1 if job.searched else None),
            prefill_s=apportioned,
            prefill_apportioned=apportioned is not None,
        )
        self.records.append(record)
        self.sink.record(record)

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.day.now += seconds

    def written(self) -> None:
        """Everything so far is in the database."""
        self.sink.tick()
        assert self.sink.flush(), "the ledger's thread does not write"

    def kill(self) -> None:
        """What the operating system does to a process that is killed: it gives back its locks, and no more."""
        self.database.close()
