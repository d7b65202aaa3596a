"""How good answers were: votes of clients and results of checks, one of each kind per request, in the order in which
they came. Where gateways share a database they share these, and all see the same order."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from typing import Literal

from serving.database.protocol import Database, Row, Schema

Source = Literal["vote", "check"]
SCHEMA = Schema(
    """
CREATE TABLE IF NOT EXISTS outcomes (
    request_id TEXT NOT NULL, source TEXT NOT NULL, at REAL NOT NULL, answered_at REAL NOT NULL, tenant TEXT NOT NULL,
    key_id TEXT NOT NULL, model TEXT NOT NULL, adapter TEXT NOT NULL, score REAL NOT NULL, comment TEXT,
    PRIMARY KEY (request_id, source)
);
CREATE INDEX IF NOT EXISTS outcomes_of_model ON outcomes (model, answered_at);
CREATE TABLE IF NOT EXISTS outcomes_turn (taken INTEGER NOT NULL);
INSERT INTO outcomes_turn SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM outcomes_turn);
""",
    # SQLite numbers its rows itself.
    shared="""
ALTER TABLE outcomes ADD COLUMN IF NOT EXISTS rowid BIGINT NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS outcomes_in_order ON outcomes (rowid);
""",
)
# First in the transaction: writers come one after another, so that who has read up to a row has missed no earlier one.
_TURN = ("UPDATE outcomes_turn SET taken = taken + 1", ())


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


_NAMES = ", ".join(field.name for field in fields(Outcome))
_ADD = (
    f"INSERT INTO outcomes (rowid, {_NAMES}) SELECT coalesce(max(rowid), 0) + 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? "  # noqa: S608  # names of ours
    "FROM outcomes WHERE true ON CONFLICT (request_id, source) DO NOTHING"
)
_SELECT = f"SELECT rowid AS place, {_NAMES} FROM outcomes"  # noqa: S608  # names of ours


@dataclass(frozen=True, slots=True)
class Read:
    """Outcomes with their places, in the order in which they came, and the place up to which everything is read."""

    outcomes: Sequence[tuple[int, Outcome]]
    place: int


class FeedbackStore:
    """Any thread may use it. All calls raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def shared(self) -> bool:
        """Whether other gateways add outcomes, too."""
        return self._database.shared

    def add(self, outcome: Outcome) -> bool:
        """On disk when this returns; False if the request has one from this source already."""
        return self._database.write([_TURN, (_ADD, astuple(outcome))]) == 1

    def since(self, model: str, answered_at: float, one: str, other: str) -> Read:
        """Outcomes of a served model's answers by these two versions."""
        place = self._database.rows("SELECT coalesce(max(rowid), 0) AS place FROM outcomes")[0]["place"]
        where = "WHERE model = ? AND answered_at >= ? AND adapter IN (?, ?) ORDER BY rowid"
        rows = self._database.rows(f"{_SELECT} {where}", (model, answered_at, one, other))
        return _read(rows, place)

    def after(self, place: int) -> Read:
        """What was added since, of all models."""
        return _read(self._database.rows(f"{_SELECT} WHERE rowid > ? ORDER BY rowid", (place,)), place)

    def close(self) -> None:
        """Close a file of our own."""
        if not self._database.shared:
            self._database.close()


def _read(rows: Sequence[Row], place: int) -> Read:
    found = [dict(row) for row in rows]
    outcomes = [(int(row.pop("place")), Outcome(**row)) for row in found]
    return Read(outcomes, max([place, *(at for at, _ in outcomes)]))
