"""What the names of an adapter mean now (`prod`, `canary`, any other): changed atomically, and on the record."""

import fcntl
import json
import os
import re
import secrets
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.audit import Action, AuditLog, Cause, Decision, now
from adapters.errors import TamperedAdapter, UnsafeAdapter
from adapters.manifest import VERSION_PATTERN

PROD, CANARY = "prod", "canary"
ANYTHING = "*"
_FILE = "aliases.json"
_PATTERN = r"[a-z][a-z-]{0,31}"
_TURN = threading.Lock()
_VERSION = VERSION_PATTERN.removesuffix("$")


class Aliases:
    """Safe for several processes: changes are made under one lock, and a reader sees the old file or the new one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.log = AuditLog(root / "audit.jsonl")

    def of(self, name: str) -> dict[str, str]:
        """Alias -> version. Raises TamperedAdapter."""
        path = self._root / name / _FILE
        try:
            stated = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError:
            stated = None
        if not isinstance(stated, dict) or not all(map(_is_version, stated.values())):
            raise TamperedAdapter(f"{path} is damaged: delete it and promote a version again")
        return stated

    def change(
        self, name: str, alias: str, version: str | None, action: Action, cause: Cause, only_from: str | None = ANYTHING
    ) -> None:
        """Let `alias` mean `version` from now on, or nothing. Logged first; one that changes nothing is not logged.

        With `only_from` nothing happens if somebody was quicker and it means something else by now."""
        if not re.fullmatch(_PATTERN, alias):
            raise UnsafeAdapter(f"bad alias {alias!r}: use lower-case letters and dashes, such as prod or canary")
        with self.locked():
            present = self.of(name)
            before = present.get(alias)
            if before == version or only_from not in (ANYTHING, before):
                return
            self.record(action, name, alias, (before, version), cause)
            after = {**present, alias: version}
            _replace(self._root / name / _FILE, {each: found for each, found in after.items() if found is not None})

    def record(
        self, action: Action, name: str, alias: str | None, change: tuple[str | None, str | None], cause: Cause
    ) -> None:
        """Put a decision into the log."""
        before, after = change
        self.log.append(
            Decision(at=now(), action=action, adapter=name, alias=alias, before=before, after=after, cause=cause)
        )

    def previous(self, name: str, alias: str, installed: Collection[str]) -> str | None:
        """The version that `alias` meant before the present one, by the log; what was removed since is passed over."""
        meant: list[str] = []
        for each in self._changes(name, alias):
            version = each.get("to")
            if each["action"] == "rollback" and version in meant:
                # What it was rolled back from is not to be returned to.
                del meant[len(meant) - meant[::-1].index(version) :]
            elif isinstance(version, str):
                meant.append(version)
        present = self.of(name).get(alias)
        earlier = [version for version in meant if version != present and version in installed]
        return earlier[-1] if earlier else None

    def since(self, name: str, alias: str) -> dict[str, Any] | None:
        """The decision by which `alias` came to mean its present version."""
        changes = list(self._changes(name, alias))
        return changes[-1] if changes and changes[-1].get("to") == self.of(name).get(alias) else None

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process changes aliases or the log meanwhile, on other machines too where the filesystem has locks.

        NFS makes a lock of the process out of flock's, which its own threads would walk through."""
        self._root.mkdir(parents=True, exist_ok=True)
        with _TURN, (self._root / "registry.lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _changes(self, name: str, alias: str) -> Iterator[dict[str, Any]]:
        """Those that came true: one that was logged before a crash is contradicted by what came after it."""
        logged = [
            each
            for each in self.log.decisions(name)
            if each.get("alias") == alias and each.get("action") in ("install", "promote", "rollback")
        ]
        then = [*(each.get("from") for each in logged[1:]), self.of(name).get(alias)]
        # Not strict: where nothing was logged, what there is now is nobody's decision.
        yield from (each for each, became in zip(logged, then, strict=False) if each.get("to") == became)


def sync_folder(folder: Path) -> None:
    """A rename is on disk once its folder is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_whole(path: Path, text: str, beside: Path) -> None:
    """Replace `path`: readers see the old text or the new one. `beside` is where the new one is written first."""
    # Not the process id: in containers everybody has the same.
    fresh = beside / f"{path.name}.{secrets.token_hex(6)}"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    sync_folder(path.parent)


def _replace(path: Path, aliases: dict[str, str]) -> None:
    write_whole(path, json.dumps(aliases, sort_keys=True) + "\n", path.parent)


def _is_version(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(_VERSION, value) is not None
