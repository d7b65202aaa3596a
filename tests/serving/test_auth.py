"""Keys: shown once, stored hashed, tied to a tenant, groups and a role, and gone when revoked."""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from serving.auth import LOCAL_OPERATOR, MAX_AGE_S, REFRESH_S, KeyRefused, KeyStore, open_keys
from serving.database.opening import shared_database
from serving.errors import Forbidden, StoreUnavailable, Unauthenticated
from serving.sharing import RateLimits
from tests.servers import Cluster

Open = Callable[[], KeyStore]


@pytest.fixture
def open_store(database_url: str | None, tmp_path: Path) -> Iterator[Open]:
    """Opens the same keys again, as another gateway or command does."""
    with ExitStack() as stack:

        def reopen() -> KeyStore:
            shared = stack.enter_context(shared_database(database_url))
            return stack.enter_context(closing(open_keys(tmp_path / "home", shared)))

        yield reopen


@pytest.fixture
def keys(open_store: Open) -> KeyStore:
    return open_store()


def test_without_keys_the_caller_is_the_local_operator(keys: KeyStore) -> None:
    assert keys.authenticate(None) == LOCAL_OPERATOR
    assert keys.authenticate("Bearer anything") == LOCAL_OPERATOR


def test_a_key_names_its_tenant_groups_and_role(keys: KeyStore) -> None:
    key = keys.create("acme", ["legal", "everyone"], "user")
    caller = keys.authenticate(f"Bearer {key}")
    assert (caller.tenant, caller.groups, caller.role) == ("acme", {"legal", "everyone"}, "user")
    with pytest.raises(Forbidden):
        caller.require_operator()


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer x", "Basic abc", "Bearer bk-x", "Bearer bk-{id}-wrong", "Bearer bk-{id}-"]
)
def test_anything_else_is_refused_once_a_key_exists(keys: KeyStore, header: str | None) -> None:
    key_id = keys.create("acme", [], "user").split("-")[1]
    with pytest.raises(Unauthenticated):
        keys.authenticate(header.format(id=key_id) if header else header)


def test_one_key_written_in_many_ways_takes_no_more_memory(keys: KeyStore) -> None:
    key = keys.create("acme", [], "user")
    keys.follow()
    for blanks in range(1, 100):
        for header in (f"Bearer {' ' * blanks}{key}", f"bearer {key}{' ' * blanks}", f"Bearer {key}"):
            assert keys.authenticate(header).tenant == "acme"
    assert set(keys._good[1]) == {f"Bearer {key}", f"bearer {key}"}


def test_revoking_the_last_key_does_not_open_the_door(keys: KeyStore) -> None:
    key = keys.create("acme", [], "operator")
    keys.revoke(key.split("-")[1])
    for header in (None, f"Bearer {key}"):
        with pytest.raises(Unauthenticated):
            keys.authenticate(header)
    with pytest.raises(KeyRefused):
        keys.revoke(key.split("-")[1])


def test_a_change_that_waits_for_another_process_holds_up_no_request(tmp_path: Path) -> None:
    """Requests ask on the event loop: what waited here would hold up everybody."""
    keys = open_keys(tmp_path)
    key = keys.create("acme", [], "user")
    with closing(sqlite3.connect(tmp_path / "keys.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        changing = threading.Thread(target=keys.set_rates, args=(key.split("-")[1], RateLimits(requests_per_minute=5)))
        changing.start()
        time.sleep(REFRESH_S + 0.1)
        asking = threading.Thread(target=keys.authenticate, args=(f"Bearer {key}",))
        asking.start()
        asking.join(1)
        waits = asking.is_alive()
        other.execute("ROLLBACK")
    changing.join()
    assert not waits
    assert keys.authenticate(f"Bearer {key}").rates == RateLimits(requests_per_minute=5)


def test_keys_from_before_there_were_limits_of_tokens(open_store: Open) -> None:
    old = open_store()
    key = old.create("acme", [], "user", rates=RateLimits(requests_per_minute=7))
    old._database.write([("ALTER TABLE keys DROP COLUMN tokens_per_minute", ())])
    keys, id = open_store(), key.split("-")[1]
    assert keys.authenticate(f"Bearer {key}").rates == RateLimits(requests_per_minute=7)
    for given, expected in (
        (RateLimits(tokens_per_minute=500), RateLimits(requests_per_minute=7, tokens_per_minute=500)),
        (RateLimits(requests_per_minute=None), RateLimits(tokens_per_minute=500)),
        (RateLimits(tokens_per_minute=None), None),
    ):
        keys.set_rates(id, given)
        assert keys.authenticate(f"Bearer {key}").rates == expected
    with pytest.raises(KeyRefused):
        keys.set_rates(id, RateLimits(tokens_per_minute=5), "rival")


def test_a_column_that_a_newer_gateway_adds_breaks_nobody_s_keys(open_store: Open) -> None:
    keys, newer = open_store(), open_store()
    for _ in range(20):
        keys.create("acme", [], "user")  # each reads all of them, by a statement that is prepared in the end
    newer._database.write([("ALTER TABLE keys ADD COLUMN later TEXT", ())])
    assert len(keys.list()) == 20
    assert keys.authenticate(f"Bearer {keys.create('acme', [], 'user')}").tenant == "acme"


def test_the_secret_is_not_in_the_file(tmp_path: Path) -> None:
    key = open_keys(tmp_path).create("acme", [], "user")
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.split("-", 2)[2].encode() not in stored
    assert (tmp_path / "keys.db").stat().st_mode & 0o077 == 0


def test_what_another_process_does_becomes_known(open_store: Open) -> None:
    keys, other = open_store(), open_store()
    keys.follow()
    first = keys.create("acme", [], "user")
    keys.authenticate(f"Bearer {first}")
    second = other.create("acme", [], "user")
    within(MAX_AGE_S, lambda: keys.authenticate(f"Bearer {second}").tenant == "acme")
    other.revoke(first.split("-")[1])
    within(MAX_AGE_S, lambda: refused(keys, first))
    assert keys.authenticate(f"Bearer {second}").tenant == "acme"


def test_two_that_revoke_at_once(open_store: Open) -> None:
    """One did it, the other is told that it is done; nobody's change is lost, nor anybody's key."""
    stores = [open_store() for _ in range(2)]
    made = [stores[0].create("acme", [], "user") for _ in range(6)]
    done: list[str] = []

    def revoke(store: KeyStore) -> None:
        for key in made:
            with suppress(KeyRefused):
                store.revoke(key.split("-")[1])
                done.append(key)
            store.create("acme", [], "user")

    threads = [threading.Thread(target=revoke, args=(store,)) for store in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == sorted(made)
    found = open_store().list()
    assert (len(found), sum(key.revoked_at is None for key in found)) == (18, 12)


def test_a_table_that_lost_its_keys_opens_no_door(open_store: Open) -> None:
    keys = open_store()
    keys.follow()
    keys.create("acme", [], "user")
    keys._database.write([("UPDATE keys_version SET version = 0", ()), ("DELETE FROM keys", ())])
    keys.refresh()
    with pytest.raises(Unauthenticated):
        keys.authenticate(None)


def test_keys_of_the_home_are_taken_in_and_what_is_revoked_stays_so(tmp_path: Path, postgres: Cluster) -> None:
    postgres.empty()
    with closing(open_keys(tmp_path)) as old:
        first, second = (old.create("acme", ["legal"], "user") for _ in range(2))
    for revoked in (False, True):
        with shared_database(postgres.url()) as shared, closing(open_keys(tmp_path, shared)) as keys:
            assert keys.authenticate(f"Bearer {second}").groups == {"legal"}
            assert refused(keys, first) == revoked
            if not revoked:
                keys.revoke(first.split("-")[1])


def test_without_postgresql_keys_are_good_for_a_while_and_then_nobody_is_let_in(
    postgres: Cluster, tmp_path: Path
) -> None:
    postgres.empty()
    with shared_database(postgres.url()) as shared, closing(open_keys(tmp_path, shared, 2.0)) as keys:
        keys.follow()
        key = keys.create("acme", [], "user")
        postgres.stop()
        try:
            assert keys.authenticate(f"Bearer {key}").tenant == "acme"
            within(4.0, lambda: unavailable(keys, key))
        finally:
            postgres.start()
        within(10.0, lambda: not unavailable(keys, key))


def test_keys_stay_good_while_every_connection_is_at_work(postgres: Cluster, tmp_path: Path) -> None:
    postgres.empty()
    with shared_database(postgres.url()) as shared, closing(open_keys(tmp_path, shared, 1.5)) as keys:
        assert shared is not None
        keys.follow()
        key, revoked = (keys.create("acme", [], "user") for _ in range(2))
        busy = [threading.Thread(target=shared.rows, args=("SELECT pg_sleep(3)",)) for _ in range(8)]
        for thread in busy:
            thread.start()
        postgres.run_sql("UPDATE breakeven_gateway.keys_version SET version = version + 1")
        postgres.run_sql(
            "UPDATE breakeven_gateway.keys SET revoked_at = 1 WHERE id = %(id)s", {"id": revoked.split("-")[1]}
        )
        postgres.run_sql("UPDATE breakeven_gateway.keys_version SET version = version + 1")
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            assert keys.authenticate(f"Bearer {key}").tenant == "acme"
            time.sleep(0.05)
        assert refused(keys, revoked)
        assert all(thread.is_alive() for thread in busy)
        for thread in busy:
            thread.join()


def within(seconds: float, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if true():
                return
        except Unauthenticated:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)


def refused(keys: KeyStore, key: str) -> bool:
    try:
        keys.authenticate(f"Bearer {key}")
    except Unauthenticated:
        return True
    return False


def unavailable(keys: KeyStore, key: str) -> bool:
    try:
        keys.authenticate(f"Bearer {key}")
    except StoreUnavailable as error:
        assert (error.status, error.code) == (503, "keys_unavailable")
        return True
    return False


@pytest.mark.parametrize("name", ["", "a b", "../x", "é", "x" * 65])
def test_bad_names_are_refused(keys: KeyStore, name: str) -> None:
    with pytest.raises(KeyRefused):
        keys.create(name, [], "user")
    with pytest.raises(KeyRefused):
        keys.create("acme", [name], "user")
