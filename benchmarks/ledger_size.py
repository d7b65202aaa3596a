"""What a request leaves in the ledger, and how many the database takes: `python -m benchmarks.ledger_size --out FILE`.

Rows are made by the ledger's own code from made-up records, of answers with documents for an adapter, and written as
the gateway writes them: so many in a transaction. Without --database-url only SQLite is measured. The PostgreSQL should
be an empty one, on the disk that counts.
"""

import argparse
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from rich.progress import track

from benchmarks.errors import BenchmarkError, ResultsError
from benchmarks.origin import Origin
from benchmarks.prices import load_prices
from benchmarks.result_file import show
from serving.accounting.cost import GpuPrice, request_cost
from serving.accounting.ledger.books import Books, Snapshot
from serving.accounting.ledger.database import Database, LedgerError, Unwritten
from serving.accounting.ledger.opening import open_database
from serving.accounting.meter import Bill
from serving.accounting.record import RequestRecord, Share, Times, Tokens

_NO_BILL = Bill(0.0, 0.0, 0.0, 0.0)
_SIZE = (
    "SELECT SUM(pg_total_relation_size(pg_class.oid)) FROM pg_class "
    "JOIN pg_namespace ON pg_namespace.oid = relnamespace WHERE nspname = ? AND relkind = 'r'"
)
_LOG = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')"


@dataclass(frozen=True, slots=True)
class Size:
    """Of one database. Bytes include the indexes and the periods that requests are in; `log_bytes_per_request`: of the
    write-ahead log, which replicas and archives take. `rows_per_s`: from one writer, as fast as it can."""

    requests: int
    in_a_transaction: int
    bytes_per_request: float
    log_bytes_per_request: float
    rows_per_s: float


def measure(home: Path, database_url: str | None, requests: int, batch: int, console: Console) -> Size:
    """Writes so many made-up requests. ResultsError when the database cannot be used."""
    try:
        database = open_database(home, database_url)
        try:
            before = _bytes(database, home, database_url)
            seconds = _write(database, requests, batch, console)
            grown, logged = (now - then for now, then in zip(_bytes(database, home, database_url), before, strict=True))
        finally:
            database.close()
    except (LedgerError, Unwritten) as error:
        raise ResultsError(f"the ledger cannot be written: {error}") from error
    return Size(requests, batch, round(grown / requests, 1), round(logged / requests, 1), round(requests / seconds, 1))


def _write(database: Database, requests: int, batch: int, console: Console) -> float:
    """Seconds that it took, the making of rows included."""
    price = load_prices().cpu
    books = Books(uuid.uuid4().hex, price, Snapshot(0.0, 0.0, _NO_BILL, [], []), 0.0, simulated=True)
    seconds = 0.0
    for first in track(range(0, requests, batch), f"ledger: {database.place}", console=console):
        records = [_record(number, price) for number in range(first, min(first + batch, requests))]
        at = (first + batch) / 100
        began = time.perf_counter()
        books.enter(Snapshot(at, at, _NO_BILL, records, []))
        database.write(books.steps())
        books.written()
        seconds += time.perf_counter() - began
    return seconds


def _record(number: int, price: GpuPrice) -> RequestRecord:
    at, share = number / 100, Share(0.25 + number % 89 / 1000, 0.1 + number % 97 / 1000)
    times = Times(at, at + 0.02, at + 0.2, at + 1.1, at + 1.2 + number % 83 / 1000, 0.005, 0.01)
    cost = request_cost(share, price)
    return RequestRecord(
        id=f"chatcmpl-{uuid.uuid4().hex}",
        started_at=1_790_000_000 + at,
        endpoint="chat.completions",
        model="support",
        engine_model="support@1a2b3c4d5e6f",
        adapter="support@1a2b3c4d5e6f",
        knowledge="handbook",
        tenant=f"tenant-{number % 50}",
        key_id=f"{number % 500:012x}",
        stream=True,
        outcome="complete",
        status=200,
        error_code=None,
        passages=4,
        best_score=0.5 + number % 101 / 1000,
        tokens=Tokens(1400 + number % 300, 0, 1200, 250 + number % 60),
        times=times,
        share=share,
        cost=cost,
        simulated=True,
        prefill_s=0.1 + number % 71 / 1000,
    )


def _bytes(database: Database, home: Path, database_url: str | None) -> tuple[float, float]:
    """(Tables with their indexes, log so far)."""
    if database_url is None:
        # The log is part of SQLite's files until it is folded in.
        return float(sum(path.stat().st_size for path in home.glob("ledger.db*") if path.is_file())), 0.0
    (size,), (log,) = database.rows(_SIZE, ("breakeven_ledger",))[0], database.rows(_LOG)[0]
    return float(Decimal(size or 0)), float(Decimal(log))


def main(arguments: Sequence[str] | None = None) -> None:
    """One JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--batch", type=int, default=200, help="requests in a transaction; a gateway writes 2 a second")
    parser.add_argument("--database-url", help="an empty PostgreSQL")
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args(arguments)
    progress = Console(stderr=True)
    origin = Origin.here(f"python -m benchmarks.ledger_size --requests {given.requests} --batch {given.batch}"
                         + (" --database-url URL" if given.database_url else ""))  # fmt: skip
    try:
        with tempfile.TemporaryDirectory() as folder:
            sizes = {"sqlite": measure(Path(folder), None, given.requests, given.batch, progress)}
            if given.database_url:
                sizes["postgresql"] = measure(Path(folder), given.database_url, given.requests, given.batch, progress)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    show({**sizes, "load_average": round(os.getloadavg()[0], 2), "origin": origin}, given.out)


if __name__ == "__main__":
    main()
