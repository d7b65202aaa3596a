"""The live break-even: traffic from the ledger goes to the economic model, what it says goes to whoever asks.

The model lives in another package, so that this one sees only what it answers: a document and some gauges. It is asked
in a thread, and a scrape never waits for it: it gets the gauges that the scrape before it asked for, and whoever never
scrapes never loads the model.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.accounting.ledger.database import LedgerError
from serving.accounting.ledger.sink import LedgerSink
from serving.accounting.ledger.traffic import Traffic, traffic

logger = logging.getLogger("breakeven")
_MOST_KEPT = 16


@dataclass(frozen=True, slots=True)
class Gauge:
    """One sample. `labels` by name; their values are ids of the price file and words of ours."""

    name: str
    meaning: str
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Appraisal:
    """What the economic model says of a window: as a JSON object, and as gauges."""

    document: Mapping[str, Any]
    gauges: tuple[Gauge, ...] = ()


class Economist(Protocol):
    """The economic model over live traffic. Pure: it may be asked in any thread."""

    def appraise(self, seen: Traffic) -> Appraisal:
        """What the window says, and what it does not say yet."""


@dataclass(slots=True, eq=False)
class Economics(Collector):
    """`window_s` and `refresh_s` are the gauges'; a document is computed again when it is older than `refresh_s`."""

    economist: Economist
    ledger: LedgerSink
    simulated: bool
    window_s: float
    refresh_s: float
    now: Callable[[], float] = time.time
    _latest: Appraisal | None = None
    _kept: dict[float, tuple[float, Mapping[str, Any]]] = field(default_factory=dict)
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _wanted: asyncio.Event = field(default_factory=asyncio.Event)

    async def document(self, window_s: float) -> Mapping[str, Any]:
        """Of the last `window_s` seconds. Raises LedgerError."""
        async with self._turn:  # whoever comes meanwhile gets the same
            found = self._kept.get(window_s)
            if found is None or not 0 <= self.now() - found[0] < min(2.0, self.refresh_s):
                appraisal = await asyncio.to_thread(self._appraise, window_s)
                while len(self._kept) >= _MOST_KEPT:
                    self._kept.pop(next(iter(self._kept)))
                found = self._kept[window_s] = (self.now(), appraisal.document)
            return found[1]

    async def keep_current(self) -> None:
        """Compute the gauges after a scrape, at most once in `refresh_s`, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                self._latest = await asyncio.to_thread(self._appraise, self.window_s)
            except LedgerError as error:
                logger.error("break-even gauges stay as they were: %s", error)
            except Exception:  # one odd window must not end them for good
                logger.exception("break-even gauges stay as they were")
            await asyncio.sleep(self.refresh_s)

    def collect(self) -> Iterable[Metric]:
        """Metric families; called by the registry, on the event loop."""
        self._wanted.set()
        families: dict[str, GaugeMetricFamily] = {}
        for gauge in self._latest.gauges if self._latest is not None else ():
            family = families.get(gauge.name)
            if family is None:
                family = families[gauge.name] = GaugeMetricFamily(gauge.name, gauge.meaning, labels=list(gauge.labels))
            family.add_metric(list(gauge.labels.values()), gauge.value)
        return families.values()

    def _appraise(self, window_s: float) -> Appraisal:
        return self.economist.appraise(traffic(self.ledger.database, self.now(), window_s, simulated=self.simulated))
