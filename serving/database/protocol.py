"""What the gateway's records need of a database: rows, transactions, and turns that end with whoever has them.

Two peers, `sqlite.py` for one gateway and `postgres.py` for several; `tests/contract` runs one suite over both.
Statements are written once, in what both understand, with `?` for values.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from retrieval import postgres_client
from serving.errors import BadRequest

Row = Mapping[str, Any]
Statement = tuple[str, Sequence[Any]]
# SQLite would keep more; what moves to PostgreSQL later must fit there.
is_text = postgres_client.is_text


class Contradiction(Exception):
    """A row has a key that is taken, or belongs to one that is gone; nothing of its transaction was kept."""


@dataclass(frozen=True, slots=True)
class Schema:
    """Tables, as `CREATE ... IF NOT EXISTS` in SQLite's types; columns that came later, (table, column, type); and what
    only the shared database needs."""

    tables: str
    later: Sequence[tuple[str, str, str]] = ()
    shared: str = ""


class Reader(Protocol):
    """Reads for one thread at a time."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """See Database."""


class Database(Protocol):
    """Any thread may use it. All calls raise StoreUnavailable, and BadRequest for text that cannot be kept."""

    @property
    def shared(self) -> bool:
        """Whether other gateways write here, too."""

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """What a query returns."""

    def write(self, statements: Iterable[Statement]) -> int:
        """All of the statements or none, on disk when it returns how many rows the last one changed. Raises
        Contradiction. A generator is taken one by one, so that not everything must be in memory at once."""

    def apart(self) -> Reader:
        """For what must be known in time: it waits for nobody else's reads and writes. Open until `close`."""

    def take(self, name: str) -> bool:
        """Hold this turn until `release`, or until this process or its connection ends. False while somebody has it."""

    def release(self, name: str) -> None:
        """Hold it no longer."""

    def close(self) -> None:
        """Give back what is held."""


def check_text(values: Sequence[Any]) -> None:
    """Raises BadRequest for characters that no database keeps, and that therefore nothing here can be called."""
    for value in values:
        if isinstance(value, str) and not is_text(value):
            raise BadRequest(f"{value[:100]!a} has characters that are no text (NUL or half a pair); leave them out")


def marks(values: Sequence[Any]) -> str:
    """`?, ?, ?` for an IN list; one that nothing is in if there are none."""
    return ", ".join("?" * len(values)) or "NULL"
