"""A durable ledger of requests and of the bill, in SQLite.

Records are queued and written by one thread, so that the request path never waits for a disk. A killed process loses
at most what came in since the last flush. The `runs` table holds each process's bill; together with the requests'
shares it lets anyone check that the parts add up.
"""

import logging
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from serving.accounting.cost import Prices, money, request_cost
from serving.accounting.meter import Bill
from serving.accounting.record import RequestRecord, Routed

logger = logging.getLogger("breakeven.ledger")

FLUSH_INTERVAL_S = 1.0
_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, started_at REAL NOT NULL, seen_at REAL NOT NULL, price_id TEXT NOT NULL,
    usd_per_hour TEXT NOT NULL, price_source TEXT NOT NULL, price_as_of TEXT NOT NULL, simulated INTEGER NOT NULL,
    billed_s REAL NOT NULL, busy_s REAL NOT NULL, idle_s REAL NOT NULL, unallocated_idle_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT NOT NULL, run_id TEXT NOT NULL, started_at REAL NOT NULL, endpoint TEXT NOT NULL,
    model TEXT NOT NULL, engine_model TEXT NOT NULL, adapter TEXT, knowledge TEXT, tenant TEXT NOT NULL,
    key_id TEXT NOT NULL, stream INTEGER NOT NULL, outcome TEXT NOT NULL, status INTEGER NOT NULL, error_code TEXT,
    passages INTEGER NOT NULL, best_score REAL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    retrieved_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, tokens_estimated INTEGER NOT NULL,
    ttft_s REAL, duration_s REAL NOT NULL, embed_s REAL, search_s REAL, busy_s REAL NOT NULL, idle_s REAL NOT NULL,
    usage_usd TEXT NOT NULL, allocation_usd TEXT NOT NULL, simulated INTEGER NOT NULL, rerank_s REAL
);
CREATE TABLE IF NOT EXISTS routes (
    request_id TEXT NOT NULL, router TEXT NOT NULL, label TEXT, confidence REAL, model TEXT NOT NULL,
    reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, busy_s REAL NOT NULL,
    idle_s REAL NOT NULL, usage_usd TEXT NOT NULL, allocation_usd TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_started_at ON requests (started_at);
CREATE INDEX IF NOT EXISTS requests_request_id ON requests (request_id);
"""


class LedgerSink:
    """Owns one writer thread from construction to `close`."""

    def __init__(self, path: Path, run_id: str, prices: Prices, bill: Callable[[], Bill], *, simulated: bool) -> None:
        self._path, self._run_id, self._prices, self._simulated = path, run_id, prices, simulated
        self._bill = bill
        self._seen = bill()
        self._queue: queue.SimpleQueue[RequestRecord | None] = queue.SimpleQueue()
        path.parent.mkdir(parents=True, exist_ok=True)
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(_SCHEMA)
            if not any(column[1] == "rerank_s" for column in database.execute("PRAGMA table_info(requests)")):
                database.execute("ALTER TABLE requests ADD COLUMN rerank_s REAL")  # a ledger from before there was one
        self._thread = threading.Thread(target=self._write_forever, name="ledger", daemon=True)
        self._thread.start()

    def record(self, record: RequestRecord) -> None:
        """See Sink. Also takes the meter's state, which only the event loop may read."""
        self.observe_bill()
        self._queue.put(record)

    def observe_bill(self) -> None:
        """Remember the meter's state for the next flush; call it from the event loop."""
        self._seen = self._bill()

    def close(self) -> None:
        """Write what is queued and end the thread."""
        self.observe_bill()
        self._queue.put(None)
        self._thread.join(timeout=10)

    def _write_forever(self) -> None:
        started_at = time.time()
        database = sqlite3.connect(self._path, timeout=30)
        open_for_more = True
        while open_for_more:
            batch, open_for_more = self._next_batch()
            try:
                with database:
                    database.executemany(f"INSERT INTO requests VALUES ({','.join('?' * 31)})", map(self._row, batch))
                    routes = [self._route(record.id, record.routing) for record in batch if record.routing]
                    database.executemany(f"INSERT INTO routes VALUES ({','.join('?' * 12)})", routes)
                    database.execute(
                        f"INSERT OR REPLACE INTO runs VALUES ({','.join('?' * 12)})", self._run(started_at)
                    )
            except sqlite3.Error as error:
                logger.error("ledger: %d records not written to %s: %s", len(batch), self._path, error)
        database.close()

    def _next_batch(self) -> tuple[list[RequestRecord], bool]:
        batch: list[RequestRecord] = []
        deadline = time.monotonic() + FLUSH_INTERVAL_S
        while (left := deadline - time.monotonic()) > 0:
            try:
                item = self._queue.get(timeout=left)
            except queue.Empty:
                break
            if item is None:
                return batch, False
            batch.append(item)
        return batch, True

    def _run(self, started_at: float) -> tuple[object, ...]:
        bill, gpu = self._seen, self._prices.gpu
        price = (gpu.id, str(gpu.usd_per_hour), gpu.source, gpu.as_of, int(self._simulated))
        seconds = (bill.billed_s, bill.busy_s, bill.idle_s, bill.unallocated_idle_s)
        return (self._run_id, started_at, time.time(), *price, *seconds)

    def _route(self, request_id: str, routed: Routed) -> tuple[object, ...]:
        """What a classification took; the request's own row includes it."""
        cost = request_cost(routed.share, self._prices.gpu)
        chosen = (routed.router, routed.label, routed.confidence, routed.model, routed.reason)
        took = (routed.tokens.prompt, routed.tokens.completion, routed.share.busy_s, routed.share.idle_s)
        return (request_id, *chosen, *took, money(cost.usage_usd), money(cost.allocation_usd))

    def _row(self, record: RequestRecord) -> tuple[object, ...]:
        tokens, times, share = record.tokens, record.times, record.share
        first = None if times.first_token is None else times.first_token - times.received
        who = (record.model, record.engine_model, record.adapter, record.knowledge, record.tenant, record.key_id)
        how = (int(record.stream), record.outcome, record.status, record.error_code, record.passages, record.best_score)
        counts = (tokens.prompt, tokens.cached, tokens.retrieved, tokens.completion, int(tokens.estimated))
        spans = (first, times.ended - times.received, times.embed_s, times.search_s, share.busy_s, share.idle_s)
        usd = (money(record.cost.usage_usd), money(record.cost.allocation_usd), int(record.simulated), times.rerank_s)
        return (record.id, self._run_id, record.started_at, record.endpoint, *who, *how, *counts, *spans, *usd)
