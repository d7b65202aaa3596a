"""Where measurements on knowledge bases are kept: files of one process, or a table that several gateways share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from retrieval.postgres import Postgres


class Measurements(Protocol):
    """Of one kind, as JSON, by tenant and knowledge base. Thread-safe."""

    def all(self) -> Iterator[tuple[str, str | None]]:
        """(where it is, its JSON; None if it cannot be read)."""
        ...

    def changed(self, tenant: str, knowledge: str) -> str | None:
        """Its JSON, if somebody else may have written it since."""
        ...

    def keep(self, tenant: str, knowledge: str, text: str) -> None:
        """In place of the last one. Safe on disk when it returns."""
        ...


class MeasurementFiles:
    """In a folder that one process owns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> Iterator[tuple[str, str | None]]:
        """See Measurements."""
        for file in sorted(self._folder.glob("*/*.json")):
            try:
                yield str(file), file.read_text(encoding="utf-8")
            except (OSError, ValueError):
                yield str(file), None

    def changed(self, tenant: str, knowledge: str) -> str | None:  # noqa: ARG002  # nobody else writes here
        """See Measurements."""
        return None

    def keep(self, tenant: str, knowledge: str, text: str) -> None:
        """See Measurements."""
        file = self._folder / quote(tenant, safe="") / f"{quote(knowledge, safe='')}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_suffix(".tmp")
        written.write_text(text, encoding="utf-8")
        written.replace(file)


class MeasurementTable:
    """In PostgreSQL; `kind` is what was measured."""

    def __init__(self, database: Postgres, kind: str) -> None:
        self._database, self._kind = database, kind

    def all(self) -> Iterator[tuple[str, str | None]]:
        """See Measurements."""
        for tenant, knowledge, text in self._database.rows(
            "SELECT tenant, knowledge, measurement FROM measurements WHERE kind = %s ORDER BY tenant, knowledge",
            (self._kind,),
        ):
            yield f"the {self._kind} of {tenant}'s '{knowledge}'", text

    def changed(self, tenant: str, knowledge: str) -> str | None:
        """See Measurements."""
        rows = self._database.rows(
            "SELECT measurement FROM measurements WHERE kind = %s AND tenant = %s AND knowledge = %s",
            (self._kind, tenant, knowledge),
        )
        return str(rows[0][0]) if rows else None

    def keep(self, tenant: str, knowledge: str, text: str) -> None:
        """See Measurements."""
        self._database.rows(
            "INSERT INTO measurements VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (kind, tenant, knowledge) DO UPDATE SET measurement = excluded.measurement",
            (self._kind, tenant, knowledge, text),
        )


def open_measurements(folder: Path, database: Postgres | None) -> Measurements:
    """In the database if there is one, else in `folder`, whose name says what was measured."""
    return MeasurementFiles(folder) if database is None else MeasurementTable(database, folder.name)
