"""The connection by which a gateway follows its keys: what breaks in its first moment does not stay broken."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest

from serving.database.postgres import _Reader


@dataclass
class Session:
    """A connection that knows its tables only once it was told where to look, as the server's does."""

    full: bool = False
    closed: bool = False
    told: list[str] = field(default_factory=list)

    def execute(self, sql: str | bytes, values: Sequence[Any] = ()) -> "Session":
        del values
        if self.full:
            self.full = False
            raise psycopg.errors.OutOfMemory("out of shared memory")  # and the connection stays
        if isinstance(sql, str):
            self.told.append(sql)
        elif not self.told:
            raise psycopg.errors.UndefinedTable('relation "keys_version" does not exist')
        return self

    def fetchall(self) -> list[dict[str, Any]]:
        return [{"version": 1}]


def test_a_session_that_could_not_be_begun_is_not_read_from() -> None:
    sessions: list[Any] = [Session(full=True), Session()]
    reader = _Reader(lambda: sessions.pop(0), nullcontext)
    with pytest.raises(psycopg.OperationalError):
        reader.rows("SELECT version FROM keys_version")
    assert reader.rows("SELECT version FROM keys_version") == [{"version": 1}]
