"""One line of JSON per request: what an operator wants to see scroll by, and what a log collector reads.

Lines are written a few times a second, not one by one: a write for each would cost as much as counting it everywhere
else. A killed process loses those of its last half second; the ledger has the same requests.
"""

import logging
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TextIO

import orjson

from serving.accounting.cost import money, to_microseconds
from serving.accounting.record import RequestRecord

logger = logging.getLogger("breakeven.requests")

FLUSH_INTERVAL_S = 0.5
_TOGETHER = 200  # lines in one write


class LogSink:
    """Writes records to `stream` while the logger `breakeven.requests` is enabled for INFO."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._records: list[RequestRecord] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_forever, name="requests log", daemon=True)
        self._thread.start()

    def record(self, record: RequestRecord) -> None:
        """See Sink."""
        self._records.append(record)

    def close(self) -> None:
        """Write what is left and end the thread."""
        self._ended.set()
        self._thread.join(timeout=10)

    def _write_forever(self) -> None:
        ended = False
        while not ended:
            ended = self._ended.wait(FLUSH_INTERVAL_S)
            records, self._records = self._records, []
            if logger.isEnabledFor(logging.INFO):
                self._write(records)

    def _write(self, records: Sequence[RequestRecord]) -> None:
        try:
            for at in range(0, len(records), _TOGETHER):
                self._stream.write(b"".join(map(line, records[at : at + _TOGETHER])).decode())
                self._stream.flush()
        except (OSError, ValueError) as error:  # a closed terminal must not end the metering of requests
            logger.error("the log of requests cannot be written: %s", error)


def line(record: RequestRecord) -> bytes:
    """The record as one line of JSON."""
    times, tokens, first = record.times, record.tokens, record.times.first_token
    said = {
        "time": datetime.fromtimestamp(record.started_at, UTC),
        "request_id": record.id,
        "tenant": record.tenant,
        "key": record.key_id,
        "endpoint": record.endpoint,
        "model": record.model,
        "adapter": record.adapter,
        "knowledge": record.knowledge,
        "status": record.status,
        "outcome": record.outcome,
        "error": record.error_code,
        "stream": record.stream,
        "seconds": to_microseconds(times.ended - times.received),
        "first_token_seconds": None if first is None else to_microseconds(first - times.received),
        "tokens": tokens.counts(),
        "cost_usd": money(record.cost.allocation_usd),
        "simulated": record.simulated,
    }
    return orjson.dumps(said, option=orjson.OPT_APPEND_NEWLINE)
