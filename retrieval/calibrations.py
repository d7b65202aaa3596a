"""Where calibrations are kept: a file for each tenant and knowledge base, or a table that several gateways share."""

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import quote

from retrieval.calibration import Calibration
from retrieval.postgres import Postgres


class Calibrations(Protocol):
    """By tenant and knowledge base. Thread-safe."""

    def all(self) -> Iterator[tuple[str, str | None]]:
        """(where it is, its JSON; None if it cannot be read)."""
        ...

    def changed(self, tenant: str, knowledge: str) -> str | None:
        """Its JSON, if somebody else may have written it since."""
        ...

    def keep(self, calibration: Calibration) -> None:
        """In place of the last one. Safe on disk when it returns."""
        ...


class CalibrationFiles:
    """In a folder that one process owns."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def all(self) -> Iterator[tuple[str, str | None]]:
        """See Calibrations."""
        for file in sorted(self._folder.glob("*/*.json")):
            try:
                yield str(file), file.read_text(encoding="utf-8")
            except (OSError, ValueError):
                yield str(file), None

    def changed(self, tenant: str, knowledge: str) -> str | None:  # noqa: ARG002  # nobody else writes here
        """See Calibrations."""
        return None

    def keep(self, calibration: Calibration) -> None:
        """See Calibrations."""
        file = self._folder / quote(calibration.tenant, safe="") / f"{quote(calibration.knowledge, safe='')}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_suffix(".tmp")
        written.write_text(calibration.to_json(), encoding="utf-8")
        written.replace(file)


class CalibrationTable:
    """In PostgreSQL."""

    def __init__(self, database: Postgres) -> None:
        self._database = database

    def all(self) -> Iterator[tuple[str, str | None]]:
        """See Calibrations."""
        for tenant, knowledge, text in self._database.rows(
            "SELECT tenant, knowledge, calibration FROM calibrations ORDER BY tenant, knowledge"
        ):
            yield f"the calibration of {tenant}'s '{knowledge}'", text

    def changed(self, tenant: str, knowledge: str) -> str | None:
        """See Calibrations."""
        rows = self._database.rows(
            "SELECT calibration FROM calibrations WHERE tenant = %s AND knowledge = %s", (tenant, knowledge)
        )
        return str(rows[0][0]) if rows else None

    def keep(self, calibration: Calibration) -> None:
        """See Calibrations."""
        self._database.rows(
            "INSERT INTO calibrations VALUES (%s, %s, %s) "
            "ON CONFLICT (tenant, knowledge) DO UPDATE SET calibration = excluded.calibration",
            (calibration.tenant, calibration.knowledge, calibration.to_json()),
        )
