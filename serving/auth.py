"""API keys and callers.

A key is shown once and stored as a sha256 (it carries 256 random bits, so a slow hash would buy nothing). It belongs to
a tenant, has groups (what its holder may read) and a role: a user asks, an operator also manages. Without any key, on
loopback only, the caller is the operator of the one local tenant.
"""

import hashlib
import hmac
import re
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serving.errors import Forbidden, Unauthenticated
from serving.sharing import Budget

Role = Literal["user", "operator"]
LOCAL_TENANT = "local"
EVERYONE = "everyone"
_PREFIX = "bk"
# How long a created or revoked key may take to become known to a running gateway.
REFRESH_S = 1.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCHEMA = """CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, sha256 BLOB NOT NULL, tenant TEXT NOT NULL, groups TEXT NOT NULL, role TEXT NOT NULL,
    note TEXT NOT NULL, created_at REAL NOT NULL, revoked_at REAL, budget TEXT
)"""


class KeyRefused(ValueError):
    """A key cannot be created or revoked as asked; the message says why."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the tenant and groups bound what they see, the role what they may do."""

    tenant: str
    groups: frozenset[str]
    role: Role
    key_id: str
    budget: Budget | None = None

    def require_operator(self) -> None:
        """Raises Forbidden for a user."""
        if self.role != "operator":
            raise Forbidden("this needs an operator key: `breakeven keys create --role operator`")


LOCAL_OPERATOR = Caller(LOCAL_TENANT, frozenset({EVERYONE}), "operator", "local")


@dataclass(frozen=True, slots=True)
class Key:
    """A stored key, without its secret."""

    id: str
    sha256: bytes
    caller: Caller
    note: str
    created_at: float
    revoked_at: float | None


class KeyStore:
    """Keys in an SQLite file, which any process may open; a gateway sees changes within REFRESH_S seconds."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, timeout=30)
        with self._database:
            self._database.execute(_SCHEMA)
            if not any(column[1] == "budget" for column in self._database.execute("PRAGMA table_info(keys)")):
                self._database.execute("ALTER TABLE keys ADD COLUMN budget TEXT")  # keys from before there were any
        path.chmod(0o600)
        self._keys: dict[str, Key] = {}
        self._seen: dict[str, Caller] = {}
        self._fresh_until = 0.0

    def create(
        self, tenant: str, groups: Iterable[str], role: Role, note: str = "", budget: Budget | None = None
    ) -> str:
        """Store a new key and return it; this is the only time anyone sees it. Raises KeyRefused for a bad name."""
        chosen = sorted(set(groups))
        for name in (tenant, *chosen):
            if not _NAME.fullmatch(name):
                raise KeyRefused(f"{name!r} is not a name: letters, digits, dot, dash and underscore, at most 64")
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = f"{_PREFIX}-{key_id}-{secret}"
        row = (key_id, _digest(key), tenant, " ".join(chosen), role, note, time.time(), None, _stored(budget))
        with self._lock, self._database:
            self._database.execute("INSERT INTO keys VALUES (?,?,?,?,?,?,?,?,?)", row)
        self._fresh_until = 0.0
        return key

    def revoke(self, key_id: str) -> None:
        """Refuse the key from now on. Raises KeyRefused if no such key is in force."""
        with self._lock, self._database:
            done = self._database.execute(
                "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL", (time.time(), key_id)
            )
        self._fresh_until = 0.0
        if done.rowcount == 0:
            raise KeyRefused(f"no key {key_id!r} is in force: `breakeven keys list` shows them")

    def set_budget(self, key_id: str, budget: Budget | None, tenant: str | None = None) -> None:
        """What the key may spend from now on; `tenant` is the only one whose key it may be. Raises KeyRefused."""
        with self._lock, self._database:
            done = self._database.execute(
                "UPDATE keys SET budget = ? WHERE id = ? AND revoked_at IS NULL AND tenant = coalesce(?, tenant)",
                (_stored(budget), key_id, tenant),
            )
        self._fresh_until = 0.0
        if done.rowcount == 0:
            raise KeyRefused(f"no key {key_id!r} is in force: `breakeven keys list` shows them")

    def list(self) -> list[Key]:
        """All keys ever made, oldest first."""
        with self._lock:
            rows = self._database.execute(
                "SELECT id, sha256, tenant, groups, role, budget, note, created_at, revoked_at FROM keys "
                "ORDER BY created_at"
            ).fetchall()
        return [
            Key(row[0], row[1], Caller(row[2], frozenset(row[3].split()), row[4], row[0], _read(row[5])), *row[6:])
            for row in rows
        ]

    def any(self) -> bool:
        """True once a key was ever made: revoking the last one must not open the door."""
        return bool(self._current())

    def authenticate(self, header: str | None) -> Caller:
        """The caller behind an Authorization header. Raises Unauthenticated."""
        keys = self._current()
        if not keys:
            return LOCAL_OPERATOR
        given = header or ""
        if (caller := self._seen.get(given)) is None:
            caller = self._seen[given] = self._checked(keys, given)
        return caller

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _checked(self, keys: Mapping[str, Key], header: str) -> Caller:
        scheme, _, given = header.partition(" ")
        if scheme.lower() != "bearer" or not given:
            raise Unauthenticated("an API key is needed: Authorization: Bearer bk-...")
        parts = given.strip().split("-", 2)
        key = keys.get(parts[1]) if len(parts) == 3 else None
        # Compare even without a match, so that the time taken does not tell which ids exist.
        expected = key.sha256 if key is not None else bytes(32)
        matches = hmac.compare_digest(_digest(given.strip()), expected)
        if key is None or not matches or key.revoked_at is not None:
            raise Unauthenticated("this API key is not known or was revoked")
        return key.caller

    def _current(self) -> dict[str, Key]:
        if time.monotonic() >= self._fresh_until:
            self._keys = {key.id: key for key in self.list()}
            self._seen = {}  # headers that were found good since the keys were read
            self._fresh_until = time.monotonic() + REFRESH_S
        return self._keys


def _stored(budget: Budget | None) -> str | None:
    return None if budget is None else budget.model_dump_json(exclude_unset=True)


def _read(stored: str | None) -> Budget | None:
    return None if stored is None else Budget.model_validate_json(stored)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
