"""The API changes only when someone says so."""

import json

from tests.house.openapi_snapshot import COMMAND, SNAPSHOT, snapshot


def test_the_api_is_the_committed_one() -> None:
    assert SNAPSHOT.exists(), f"write the snapshot with: {COMMAND}"
    assert json.loads(SNAPSHOT.read_text(encoding="utf-8")) == json.loads(snapshot()), (
        f"the API differs from its snapshot; if that is meant, write it with: {COMMAND}"
    )


def test_every_operation_says_what_it_does() -> None:
    paths = json.loads(snapshot())["paths"]
    operations = [(path, method, found) for path, methods in paths.items() for method, found in methods.items()]
    assert operations
    assert [(path, method) for path, method, found in operations if not found.get("description")] == []
