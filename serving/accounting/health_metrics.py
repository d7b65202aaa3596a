"""What an operator is woken up for: errors by status, the machine, the age of prices, room on the disk,
the ledger.

Alerts need more than `outcome="error"`: a client's mistake (400) is no fault of ours, a 429 is a limit that works, and
only the rest counts against an objective.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.accounting.cost import GpuPrice, Prices, seconds_usd
from serving.accounting.meter import Bill
from serving.accounting.record import RequestRecord

# Those that an alert is built on are there with zero, so that the first one is an increase.
_WATCHED = (429, 500, 502, 503, 504)
_LOWEST = 400
_HIGHEST = 599


class ErrorMetrics:
    """Registers its counter in `registry`. Statuses are the gateway's own or HTTP's: their number is bounded."""

    def __init__(self, registry: CollectorRegistry, models: Sequence[str]) -> None:
        self._errors = Counter(
            "breakeven_errors",
            "Requests that ended in an error, by HTTP status; a part of breakeven_requests",
            ["model", "status"],
            registry=registry,
        )
        for model in models:
            for status in _WATCHED:
                self._errors.labels(model, str(status))

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        if record.outcome == "error":
            known = _LOWEST <= record.status <= _HIGHEST
            self._errors.labels(record.model, str(record.status) if known else "other").inc()


class HealthCollector(Collector):
    """When each price was seen and how much room the state's disk has, read when it is scraped."""

    def __init__(self, prices: Prices, home: Path) -> None:
        self._prices, self._home = prices, home

    def collect(self) -> Iterable[Metric]:
        """Metric families of prices and of the disk."""
        seen = GaugeMetricFamily(
            "breakeven_price_seen_timestamp_seconds",
            "When the price's source was last read, in seconds since 1970; 0 if nobody stated it",
            labels=["id"],
        )
        gpu = self._prices.gpu
        for name, day in ((gpu.id, gpu.as_of), *((hosted.id, hosted.as_of) for hosted in self._prices.hosted)):
            seen.add_metric([name], _seconds(day))
        yield seen
        disk = shutil.disk_usage(self._home)
        yield GaugeMetricFamily("breakeven_home_free_bytes", "Free bytes on the disk that holds the state", disk.free)
        yield GaugeMetricFamily("breakeven_home_size_bytes", "Size of that disk in bytes", disk.total)


@dataclass(frozen=True, slots=True)
class Machine:
    """What is read of the accelerator and its engine: the meter's state, the seconds before this run that are billed
    too, whether the engine answers, and how often it was restarted."""

    bill: Callable[[], Bill]
    down_s: float
    ready: Callable[[], bool]
    restarts: Callable[[], int]


class MachineCollector(Collector):
    """Seconds by state and the bill, read from the meter when it is scraped."""

    def __init__(self, machine: Machine, price: GpuPrice) -> None:
        self._machine, self._price = machine, price

    def collect(self) -> Iterable[Metric]:
        """Metric families of the accelerator."""
        bill, down_s = self._machine.bill(), self._machine.down_s
        billed_s = bill.billed_s + down_s
        states = {"billed": billed_s, "busy": bill.busy_s, "host": bill.host_s, "idle": bill.idle_s, "down": down_s}
        meaning = "Accelerator seconds by state; billed = busy + host + idle + down, before this run"
        seconds = CounterMetricFamily("breakeven_gpu_seconds", meaning, labels=["state"])
        for state, value in states.items():
            seconds.add_metric([state], value)
        yield seconds
        usd = float(seconds_usd(billed_s, self._price))
        yield CounterMetricFamily("breakeven_bill_usd", "Price of all billed accelerator seconds", usd)
        left = "Price of idle seconds that no request has taken a share of yet"
        usd = float(seconds_usd(bill.unallocated_idle_s, self._price))
        yield GaugeMetricFamily("breakeven_unallocated_idle_usd", left, usd)
        yield GaugeMetricFamily("breakeven_engine_ready", "1 if the engine answers", float(self._machine.ready()))
        restarts = self._machine.restarts()
        yield CounterMetricFamily("breakeven_engine_restarts", "Engine restarts after a crash", restarts)


class LedgerCollector(Collector):
    """Whether the ledger is written, and what it had to give up, read when it is scraped."""

    def __init__(self, up: Callable[[], bool], given_up: Callable[[], int]) -> None:
        self._up, self._given_up = up, given_up

    def collect(self) -> Iterable[Metric]:
        """Metric families of the ledger."""
        yield GaugeMetricFamily("breakeven_ledger_up", "1 if the last write of the ledger came through", self._up())
        lost = "Records that waited too long for the ledger: they are in its sums, not in its rows"
        yield CounterMetricFamily("breakeven_ledger_given_up_records", lost, self._given_up())


def _seconds(day: str) -> float:
    try:
        return datetime.combine(date.fromisoformat(day), time(), UTC).timestamp()
    except ValueError:  # a configured price may say "not stated"
        return 0.0
