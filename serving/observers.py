"""Everything that takes every request's record: metrics, ledger, log, spending, budgets, and the live break-even."""

import asyncio
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from decimal import Decimal
from functools import partial

from serving.accounting import health_metrics
from serving.accounting.cost import Prices, seconds_usd
from serving.accounting.economics import Economics, Economist
from serving.accounting.engine_rates import engine_rates
from serving.accounting.journal import Journal
from serving.accounting.ledger.importing import import_file
from serving.accounting.ledger.opening import LEDGER_FILE, open_database
from serving.accounting.ledger.queries import spent
from serving.accounting.ledger.retention import Retention
from serving.accounting.ledger.sink import TICK_S, LedgerSink, Policy
from serving.accounting.log import LogSink
from serving.accounting.meter import Meter
from serving.accounting.metrics import MetricsSink
from serving.accounting.recent import RecentRequests
from serving.accounting.spending import Spending
from serving.accounting.version_metrics import VersionMetrics
from serving.budgets.budgets import Budgets
from serving.budgets.metrics import BudgetCollector
from serving.budgets.opening import open_budgets
from serving.engine.device import Device
from serving.engine.protocol import Engine
from serving.rollout.operations import Rollout
from serving.sections import Settings

# Between two questions to the engine about what it measured: at first, and later.
_RATES_FIRST_S, _RATES_S = 1.0, 15.0


@dataclass(frozen=True, slots=True)
class Machine:
    """What is paid for, and how its time is divided; without an economist there is no live break-even."""

    device: Device
    prices: Prices
    meter: Meter
    economist: Economist | None


@dataclass(frozen=True, slots=True)
class Observers:
    """Those that others talk to, and the journal, which tells all of them what to count."""

    metrics: MetricsSink
    recent: RecentRequests
    budgets: Budgets
    economics: Economics | None
    journal: Journal

    @property
    def judging(self) -> tuple[VersionMetrics, RecentRequests]:
        """What the judgement of versions needs: its metrics, and whose answer a vote is about."""
        return self.metrics.versions, self.recent


async def open_observers(stack: AsyncExitStack, settings: Settings, machine: Machine, rollout: Rollout) -> Observers:
    """Raises LedgerError."""
    names, engine, prices, meter = rollout.catalogue.names, rollout.engine, machine.prices, machine.meter
    journal = Journal()
    metrics, spending = MetricsSink(prices, names, journal.flush), Spending(prices.gpu, names)
    ledger = await _open_ledger(stack, settings, machine, journal, simulated=engine.simulated)
    economics = None
    if machine.economist is not None:
        cost = settings.cost
        economics = Economics(machine.economist, ledger, engine.simulated, cost.window_s, cost.refresh_s)
        stack.push_async_callback(cancel, asyncio.create_task(economics.keep_current()))

    def dearest() -> Decimal:
        # Alone in the engine to its time limit, and then charged with all idle time that nobody has taken yet.
        alone_s = settings.engine.request_timeout_s * meter.accelerators
        return seconds_usd(alone_s + meter.bill().unallocated_idle_s, prices.gpu)

    paid = partial(spent, ledger.database)
    budgets = await open_budgets(stack, settings, prices.gpu, paid, dearest, lambda: meter.accelerators, journal.flush)
    scraped = health_metrics.Machine(meter.bill, ledger.down_s, lambda: engine.ready, lambda: engine.restarts)
    collectors = (
        spending,
        health_metrics.MachineCollector(scraped, prices.gpu),
        health_metrics.HealthCollector(prices, settings.home),
        health_metrics.LedgerCollector(lambda: ledger.up, lambda: ledger.given_up),
        BudgetCollector(budgets),
        *(() if economics is None else (economics,)),
    )
    for collector in collectors:
        metrics.registry.register(collector)
    stack.push_async_callback(cancel, asyncio.create_task(_keep_rates(engine, meter)))
    recent = RecentRequests(ledger.database, journal.flush)
    log = LogSink(sys.stderr)
    stack.callback(log.close)
    journal.sinks = (metrics, ledger, log, recent, spending, budgets)
    stack.callback(journal.flush)
    return Observers(metrics, recent, budgets, economics, journal)


async def _open_ledger(
    stack: AsyncExitStack, settings: Settings, machine: Machine, journal: Journal, *, simulated: bool
) -> LedgerSink:
    days = settings.ledger.retention_days
    retention = None if days is None else Retention(days)
    database = await asyncio.to_thread(open_database, settings.home, settings.database_url)
    if settings.database_url is not None:
        since = 0.0 if retention is None else retention.limit(time.time())
        await asyncio.to_thread(import_file, settings.home / LEDGER_FILE, database, since)
    price, meter = machine.prices.gpu, machine.meter
    policy = Policy(retention, settings.cost.longest_gap_s)
    ledger = await asyncio.to_thread(LedgerSink, database, price, meter, simulated=simulated, policy=policy)
    stack.callback(ledger.close)
    stack.callback(journal.flush)  # for what has ended while others were closed
    stack.push_async_callback(cancel, asyncio.create_task(_tick(ledger, journal)))
    return ledger


async def _tick(ledger: LedgerSink, journal: Journal) -> None:
    while True:
        journal.flush()
        ledger.tick()
        await asyncio.sleep(TICK_S)


async def _keep_rates(engine: Engine, meter: Meter) -> None:
    """Soon after the first answers, then seldom, and only while there are any."""
    every_s, asked_s = _RATES_FIRST_S, 0.0
    while True:
        await asyncio.sleep(every_s)
        busy_s = meter.bill().busy_s
        if busy_s <= asked_s:
            continue
        every_s, asked_s = min(2 * every_s, _RATES_S), busy_s
        if (found := await engine.measured()) is not None:
            seconds = (found.queue_s, found.prefill_s, found.decode_s)
            rates = engine_rates(found.requests, seconds, found.computed_tokens, found.generated_tokens)
            meter.rates = rates or meter.rates


async def cancel(task: "asyncio.Task[None]") -> None:
    """End a task, and wait for its end."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
