"""Where the records are: in PostgreSQL by `database_url`, else in files of the home."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from serving.database.protocol import Database, Schema
from serving.database.sqlite import SqliteDatabase

if TYPE_CHECKING:
    from serving.database.postgres import PostgresDatabase


@contextmanager
def shared_database(url: str | None) -> Iterator["PostgresDatabase | None"]:
    """What gateways share, if they share anything. Raises StoreUnreachable."""
    if url is None:
        yield None
        return
    from serving.database.postgres import PostgresDatabase

    database = PostgresDatabase(url)
    try:
        yield database
    finally:
        database.close()


def tables(shared: "PostgresDatabase | None", file: Path, schema: Schema) -> Database:
    """The tables of `schema`, made if they are not there: in the shared database, or in `file`, which is for its user
    to close. Raises StoreUnavailable."""
    if shared is None:
        return SqliteDatabase(file, schema)
    shared.prepare(schema)
    return shared
