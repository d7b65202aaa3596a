"""Who decided what about the adapters, when and why: one JSON line per decision, appended and never changed.

The log is also where a roll-back learns what was served before. It is written before the alias is, so that no change
is without its line.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

Action = Literal["install", "promote", "rollback", "remove", "refuse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Who is behind a decision and why; `seen` holds the numbers it was made on."""

    who: str
    reason: str = ""
    forced: bool = False
    seen: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """`alias` went from the version `before` to the version `after`; None: from nothing, or to nothing."""

    at: str
    action: Action
    adapter: str
    alias: str | None
    before: str | None
    after: str | None
    cause: Cause

    def as_dict(self) -> dict[str, Any]:
        """As it is in the log."""
        cause = {"who": self.cause.who, "reason": self.cause.reason, "forced": self.cause.forced}
        change = {"alias": self.alias, "from": self.before, "to": self.after}
        return {
            "at": self.at,
            "action": self.action,
            "adapter": self.adapter,
            **change,
            **cause,
            "seen": dict(self.cause.seen),
        }


def now() -> str:
    """The time as the log has it: UTC, to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class AuditLog:
    """Callers hold the registry's lock while they append."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def append(self, decision: Decision) -> None:
        """On disk when this returns."""
        line = json.dumps(decision.as_dict(), ensure_ascii=True, sort_keys=False).encode() + b"\n"
        with self._path.open("ab") as file:
            if self._torn():
                line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def decisions(self, adapter: str | None = None) -> list[dict[str, Any]]:
        """Of one adapter or of all, oldest first. A line that a power cut tore is left out."""
        return [each for each in self._lines() if adapter is None or each.get("adapter") == adapter]

    def _lines(self) -> Iterator[dict[str, Any]]:
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return
        for line in text.splitlines():
            try:
                found = json.loads(line)
            except ValueError:
                continue
            if isinstance(found, dict):
                yield found

    def _torn(self) -> bool:
        with self._path.open("rb") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return False
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
