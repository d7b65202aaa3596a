"""How good answers were: votes of clients and results of checks, kept in SQLite, one of each kind per request."""

import sqlite3
import threading
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Literal

Source = Literal["vote", "check"]
_SCHEMA = """
CREATE TABLE IF NOT EXISTS outcomes (
    request_id TEXT NOT NULL, source TEXT NOT NULL, at REAL NOT NULL, answered_at REAL NOT NULL, tenant TEXT NOT NULL,
    key_id TEXT NOT NULL, model TEXT NOT NULL, adapter TEXT NOT NULL, score REAL NOT NULL, comment TEXT,
    PRIMARY KEY (request_id, source)
);
CREATE INDEX IF NOT EXISTS outcomes_of_model ON outcomes (model, answered_at);
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A `score` from 0 to 1 for the answer of a request, by whoever holds `key_id`; times are seconds since 1970."""

    request_id: str
    source: Source
    at: float
    answered_at: float
    tenant: str
    key_id: str
    model: str
    adapter: str
    score: float
    comment: str | None = None


class FeedbackStore:
    """Any thread may use it."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, timeout=30)
        self._database.execute("PRAGMA journal_mode=WAL")
        # A vote that was answered with 200 is kept, whatever happens to the machine.
        self._database.execute("PRAGMA synchronous=FULL")
        self._database.executescript(_SCHEMA)
        path.chmod(0o600)

    def add(self, outcome: Outcome) -> bool:
        """On disk when this returns; False if the request has one from this source already."""
        with self._lock, self._database:
            done = self._database.execute(
                "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", astuple(outcome)
            )
        return done.rowcount == 1

    def since(self, model: str, answered_at: float, one: str, other: str) -> list[Outcome]:
        """Outcomes of a served model's answers by these two versions, in the order in which they came."""
        query = "SELECT * FROM outcomes WHERE model = ? AND answered_at >= ? AND adapter IN (?, ?) ORDER BY rowid"
        with self._lock:
            rows = self._database.execute(query, (model, answered_at, one, other)).fetchall()
        return [Outcome(*row) for row in rows]

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._database.close()
