"""Keys: shown once, stored hashed, tied to a tenant, groups and a role, and gone when revoked."""

from pathlib import Path

import pytest

from serving.auth import LOCAL_OPERATOR, KeyRefused, KeyStore, open_keys
from serving.errors import Forbidden, Unauthenticated


@pytest.fixture
def keys(tmp_path: Path) -> KeyStore:
    return open_keys(tmp_path)


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


def test_revoking_the_last_key_does_not_open_the_door(keys: KeyStore) -> None:
    key = keys.create("acme", [], "operator")
    keys.revoke(key.split("-")[1])
    for header in (None, f"Bearer {key}"):
        with pytest.raises(Unauthenticated):
            keys.authenticate(header)
    with pytest.raises(KeyRefused):
        keys.revoke(key.split("-")[1])


def test_the_secret_is_not_in_the_file(tmp_path: Path) -> None:
    key = open_keys(tmp_path).create("acme", [], "user")
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert key.rpartition("-")[2].encode() not in stored
    assert (tmp_path / "keys.db").stat().st_mode & 0o077 == 0


def test_another_process_key_becomes_known(tmp_path: Path, keys: KeyStore) -> None:
    first = keys.create("acme", [], "user")
    keys.authenticate(f"Bearer {first}")
    second = open_keys(tmp_path).create("acme", [], "user")
    keys._asked = None  # as if REFRESH_S had passed
    assert keys.authenticate(f"Bearer {second}").tenant == "acme"


@pytest.mark.parametrize("name", ["", "a b", "../x", "é", "x" * 65])
def test_bad_names_are_refused(keys: KeyStore, name: str) -> None:
    with pytest.raises(KeyRefused):
        keys.create(name, [], "user")
    with pytest.raises(KeyRefused):
        keys.create("acme", [name], "user")
