"""What the ledger needs of a database: transactions from one writer, reads from any thread, and who is alive.

Two peers, `sqlite.py` and `postgres.py`; one suite runs over both. Statements are written once, with `?` for values.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

Row = tuple[Any, ...]
Values = Sequence[Any]
# A statement and every row of values it is run with.
Step = tuple[str, Sequence[Values]]


class LedgerError(Exception):
    """The ledger cannot be used; the message says what to do."""


class Unwritten(Exception):
    """A transaction failed and left nothing behind; the database may be back later."""


class Database(Protocol):
    """Tables are made or brought up to date before one is handed out."""

    @property
    def place(self) -> str:
        """Where it is, for messages; never a password."""

    def rows(self, sql: str, values: Values = ()) -> list[Row]:
        """What a query returns, in any thread. Raises LedgerError."""

    def write(self, steps: Iterable[Step]) -> None:
        """All of the steps or none, in one thread at a time. Raises Unwritten."""

    def take(self, run_id: str) -> bool:
        """Hold a run until `release`, `close` or the end of this process, however it ends. False while a living
        process holds it. Raises LedgerError."""

    def release(self, run_id: str) -> None:
        """Hold it no longer."""

    def close(self) -> None:
        """Give back what is held."""
