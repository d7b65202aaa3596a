"""API keys and callers.

A key is shown once and stored as a sha256 (it carries 256 random bits, so a slow hash would buy nothing). It belongs to
a tenant, has groups (what its holder may read) and a role: a user asks, an operator also manages. Without any key, on
loopback only, the caller is the operator of the one local tenant.

Requests are checked against a copy of the keys in memory. In PostgreSQL, where several gateways share them, a thread
asks every second whether they have changed.
"""

import hashlib
import hmac
import logging
import re
import secrets
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from serving.database.opening import shared_database, tables
from serving.database.protocol import Database, Row, Schema, Statement, is_text
from serving.errors import Forbidden, StoreUnavailable, Unauthenticated
from serving.sections import Settings
from serving.sharing import Budget, RateLimits

if TYPE_CHECKING:
    from serving.database.postgres import PostgresDatabase

logger = logging.getLogger("breakeven.keys")

Role = Literal["user", "operator"]
LOCAL_TENANT = "local"
EVERYONE = "everyone"
_PREFIX = "bk"
# How long a created or revoked key may take to become known to a running gateway.
REFRESH_S = 1.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# How old a gateway's copy of shared keys may be before it lets nobody in any more; see server.keys_max_age_s.
MAX_AGE_S = 5.0
_SCHEMA = Schema(
    """
CREATE TABLE IF NOT EXISTS keys (
    id TEXT PRIMARY KEY, sha256 BLOB NOT NULL, tenant TEXT NOT NULL, groups TEXT NOT NULL, role TEXT NOT NULL,
    note TEXT NOT NULL, created_at REAL NOT NULL, revoked_at REAL, budget TEXT
);
CREATE TABLE IF NOT EXISTS keys_version (version INTEGER NOT NULL);
INSERT INTO keys_version SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM keys_version);
""",
    later=(("keys", "budget", "TEXT"), *(("keys", f"{each}_per_minute", "INTEGER") for each in ("requests", "tokens"))),
)
_INSERT = (
    "INSERT INTO keys (id, sha256, tenant, groups, role, note, created_at, revoked_at, budget, requests_per_minute, "
    "tokens_per_minute) VALUES (?,?,?,?,?,?,?,?,?,?,?) ON CONFLICT (id) DO NOTHING"
)
_LIST = "SELECT * FROM keys ORDER BY created_at, id"
_TENANTS_KEY = "id = ? AND revoked_at IS NULL AND tenant = coalesce(?, tenant)"
# With every change, and first in its transaction: changes of several gateways come one after another.
_CHANGED: Statement = ("UPDATE keys_version SET version = version + 1", ())


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
    rates: RateLimits | None = None

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
    revoked_at: float | None = None


class KeyStore:
    """Keys in a database. What other processes change is known within REFRESH_S seconds and the time of a query; if it
    could not be asked for `max_age_s`, everybody is refused. What is changed through here is in force at once."""

    def __init__(self, database: Database, max_age_s: float = MAX_AGE_S) -> None:
        self._database, self._reader, self._max_age_s = database, database.apart(), max_age_s
        self._refreshing, self._closing = threading.Lock(), threading.Event()
        self._follower: threading.Thread | None = None
        self._keys: dict[str, Key] = {}
        # Of which keys, and the headers that were found good under them.
        self._good: tuple[Mapping[str, Key], dict[str, Caller]] = (self._keys, {})
        self._version: int | None = None
        self._asked: float | None = None
        # Once there was a key, nobody is let in without one, whatever becomes of the table.
        self._keyed = False

    def create(
        self,
        tenant: str,
        groups: Iterable[str],
        role: Role,
        note: str = "",
        budget: Budget | None = None,
        rates: RateLimits | None = None,
    ) -> str:
        """Store a new key and return it; this is the only time anyone sees it. Raises KeyRefused for a bad name."""
        chosen = sorted(set(groups))
        for name in (tenant, *chosen):
            if not _NAME.fullmatch(name):
                raise KeyRefused(f"{name!r} is not a name: letters, digits, dot, dash and underscore, at most 64")
        if not is_text(note):
            raise KeyRefused("the note has characters that are no text; leave them out")
        key_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
        key = f"{_PREFIX}-{key_id}-{secret}"
        caller = Caller(tenant, frozenset(chosen), role, key_id, budget, rates)
        self._insert([Key(key_id, _digest(key), caller, note, time.time())])
        return key

    def take_in(self, keys: Iterable[Key]) -> None:
        """Keys of another store that are not known here; what is known stays as it is, revoked or not."""
        known = {key.id for key in self.list()}
        if fresh := [key for key in keys if key.id not in known]:
            self._insert(fresh)

    def revoke(self, key_id: str) -> None:
        """Refuse the key from now on. Raises KeyRefused if no such key is in force."""
        sql = "UPDATE keys SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL"
        self._change(sql, (time.time(), key_id), key_id)

    def set_budget(self, key_id: str, budget: Budget | None, tenant: str | None = None) -> None:
        """What the key may spend from now on; `tenant` is the only one whose key it may be. Raises KeyRefused."""
        sql = f"UPDATE keys SET budget = ? WHERE {_TENANTS_KEY}"  # noqa: S608  # a constant of ours
        self._change(sql, (_stored(budget), key_id, tenant), key_id)

    def set_rates(self, key_id: str, rates: RateLimits, tenant: str | None = None) -> None:
        """How much the key may ask from now on, as far as `rates` sets it; see set_budget. Raises KeyRefused."""
        given = rates.model_dump(include=rates.model_fields_set)
        columns = ", ".join(f"{name} = ?" for name in given)
        sql = f"UPDATE keys SET {columns} WHERE {_TENANTS_KEY}"  # noqa: S608  # names of ours
        self._change(sql, (*given.values(), key_id, tenant), key_id)

    def list(self) -> list[Key]:
        """All keys ever made, oldest first."""
        return [_key(row) for row in self._database.rows(_LIST)]

    def any(self) -> bool:
        """True once a key was ever made: revoking the last one must not open the door."""
        return bool(self._current()) or self._keyed

    def authenticate(self, header: str | None) -> Caller:
        """The caller behind an Authorization header. Raises Unauthenticated, StoreUnavailable."""
        keys = self._current()
        if not keys and not self._keyed:
            return LOCAL_OPERATOR
        of, good = self._good
        if of is not keys:
            of, good = self._good = (keys, {})
        if (caller := good.get(given := " ".join((header or "").split()))) is None:  # else blanks fill the memory
            caller = good[given] = self._checked(keys, given)
        return caller

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

    def refresh(self) -> None:
        """Know what is in force now. Raises StoreUnavailable."""
        with self._refreshing:
            asked = time.monotonic()
            version = int(self._reader.rows("SELECT version FROM keys_version")[0]["version"])
            if version != self._version:
                # Read after the version, so never older than it.
                self._keys = {key.id: key for key in map(_key, self._reader.rows(_LIST))}
                self._version = version
                self._keyed |= bool(self._keys)
            self._asked = asked

    def follow(self) -> None:
        """Refresh in a thread until `close`, where other gateways change the keys, too. Raises StoreUnavailable."""
        self.refresh()
        if self._database.shared:
            self._follower = threading.Thread(target=self._follow, name="keys", daemon=True)
            self._follower.start()

    def close(self) -> None:
        """Stop following, and close a file of our own."""
        self._closing.set()
        if self._follower is not None:
            self._follower.join(REFRESH_S)  # it may wait for a database that is gone
        if not self._database.shared:
            self._database.close()

    def _follow(self) -> None:
        lost = False
        while not self._closing.wait(REFRESH_S):
            try:
                self.refresh()
            except Exception as error:
                if not lost:
                    logger.error("API keys cannot be looked up: %s", error)
                lost = True
            else:
                if lost:
                    logger.warning("API keys are looked up again")
                lost = False

    def _current(self) -> dict[str, Key]:
        age_s = None if self._asked is None else time.monotonic() - self._asked
        if age_s is None or (age_s >= REFRESH_S and self._follower is None):
            self.refresh()
        elif self._follower is not None and age_s > self._max_age_s:
            raise StoreUnavailable(
                "API keys cannot be looked up in PostgreSQL (database_url), and one may have been revoked meanwhile; "
                "try again shortly",
                code="keys_unavailable",
                retry_after_s=REFRESH_S,
            )
        return self._keys

    def _insert(self, keys: Sequence[Key]) -> None:
        self._database.write([_CHANGED, *((_INSERT, _row(key)) for key in keys)])
        self.refresh()

    def _change(self, sql: str, values: Sequence[Any], key_id: str) -> None:
        changed = self._database.write([_CHANGED, (sql, values)])
        self.refresh()
        if changed == 0:
            raise KeyRefused(f"no key {key_id!r} is in force: `breakeven keys list` shows them")


@contextmanager
def keys_of(settings: Settings) -> Iterator[KeyStore]:
    """The keys that gateways with these settings know, for a command. Raises StoreUnreachable, StoreUnavailable."""
    with shared_database(settings.database_url) as shared, closing(open_keys(settings.home, shared)) as keys:
        yield keys


def open_keys(home: Path, shared: "PostgresDatabase | None" = None, max_age_s: float = MAX_AGE_S) -> KeyStore:
    """The keys of these gateways: in the shared database, or in the home. What the home had before there was a shared
    database is taken in, because a gateway that forgot its keys would be open. Raises StoreUnavailable."""
    file = home / "keys.db"
    store = KeyStore(tables(shared, file, _SCHEMA), max_age_s)
    if shared is not None and file.is_file():
        with closing(KeyStore(tables(None, file, _SCHEMA))) as ours:
            store.take_in(ours.list())
    return store


def _row(key: Key) -> tuple[Any, ...]:
    caller = key.caller
    who = (key.id, key.sha256, caller.tenant, " ".join(sorted(caller.groups)), caller.role)
    rates = caller.rates or RateLimits()
    limits = (_stored(caller.budget), rates.requests_per_minute, rates.tokens_per_minute)
    return (*who, key.note, key.created_at, key.revoked_at, *limits)


def _key(row: Row) -> Key:
    budget = None if row["budget"] is None else Budget.model_validate_json(row["budget"])
    rates = RateLimits(requests_per_minute=row["requests_per_minute"], tokens_per_minute=row["tokens_per_minute"])
    limits = (budget, None if rates.unlimited else rates)
    caller = Caller(row["tenant"], frozenset(row["groups"].split()), row["role"], row["id"], *limits)
    return Key(row["id"], bytes(row["sha256"]), caller, row["note"], row["created_at"], row["revoked_at"])


def _stored(budget: Budget | None) -> str | None:
    return None if budget is None else budget.model_dump_json(exclude_unset=True)


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()
