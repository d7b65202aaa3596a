"""Requests that have ended, until all who count them are told of them together, a few times in a tenth of a second.

To tell everyone at the end of each request costs twice as much: between two requests the processor's cache has filled
with other things. Whoever reads what is counted calls `flush` first, and so sees every request that has ended.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from serving.accounting.record import RequestRecord, Sink

logger = logging.getLogger("breakeven")

FLUSH_S = 0.02


class Ended(Protocol):
    """A request that has ended; nothing about it changes any more."""

    def record(self) -> RequestRecord:
        """What it leaves behind."""


class Journal:
    """Belongs to the event loop. `sinks` are told of every request, in the order of their ends."""

    def __init__(self) -> None:
        self.sinks: Sequence[Sink] = ()
        self._ended: list[Ended] = []

    def enter(self, request: Ended) -> None:
        """It has ended just now."""
        if not self._ended:
            asyncio.get_running_loop().call_later(FLUSH_S, self.flush)
        self._ended.append(request)

    def flush(self) -> None:
        """Nobody knows less than the journal."""
        ended, self._ended = self._ended, []
        # One that cannot be told of, or that a sink cannot take, must not take the others with it, nor its reader.
        records: list[RequestRecord] = []
        for request in ended:
            try:
                records.append(request.record())
            except Exception:
                logger.exception("a request that has ended cannot be recorded")
        for sink in self.sinks:
            for record in records:
                try:
                    sink.record(record)
                except Exception:
                    logger.exception("%s has missed %s", type(sink).__name__, record.id)
