"""Where the ledger is: PostgreSQL by `database_url`, else `ledger.db` in the home."""

from pathlib import Path

from serving.accounting.ledger.database import Database
from serving.accounting.ledger.sqlite import SqliteDatabase

LEDGER_FILE = "ledger.db"


def open_database(home: Path, database_url: str | None) -> Database:
    """Raises LedgerError."""
    if database_url is None:
        return SqliteDatabase(home / LEDGER_FILE)
    from serving.accounting.ledger.postgres import PostgresDatabase

    return PostgresDatabase(database_url)


def existing_database(home: Path, database_url: str | None) -> Database | None:
    """For commands that only read: None where no gateway has written a ledger yet. Raises LedgerError."""
    if database_url is None and not (home / LEDGER_FILE).is_file():
        return None
    return open_database(home, database_url)
