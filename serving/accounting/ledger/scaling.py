"""Changes of the number of engines and gateways, beside the bill that follows them. Everything here may block."""

from dataclasses import dataclass

from serving.accounting.ledger.database import Database
from serving.accounting.ledger.rows import step


@dataclass(frozen=True, slots=True)
class Change:
    """At `at` (seconds since 1970) the gateway `gateway` saw so many; since then it pays for `accelerators`."""

    at: float
    gateway: str
    engines: int
    gateways: int
    accelerators: float


def note(ledger: Database, change: Change) -> None:
    """Raises Unwritten."""
    row = {name: getattr(change, name) for name in Change.__slots__}
    ledger.write(step("scaling", [row]))


def changes(ledger: Database, since: float, until: float) -> list[Change]:
    """After `since` and not after `until`, in order. Raises LedgerError."""
    query = "SELECT at, gateway, engines, gateways, accelerators FROM scaling WHERE at > ? AND at <= ? ORDER BY at"
    return [Change(*row) for row in ledger.rows(query, (since, until))]
