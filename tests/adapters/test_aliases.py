"""Aliases change atomically and on the record; a roll-back finds its way back."""

import json
import multiprocessing
import threading
from pathlib import Path

import pytest

from adapters.aliases import _TURN, CANARY, PROD
from adapters.audit import Cause
from adapters.errors import MalformedManifest, UnknownAdapter, VersionInUse
from adapters.manifest import Measurement, Score
from adapters.registry import Registry
from tests.adapters.conftest import MakeAdapter

ME = Cause(who="me", reason="because", seen={"accuracy": 0.5})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def three(registry: Registry, make_adapter: MakeAdapter) -> list[str]:
    """Three versions; the first is prod."""
    return [registry.install(make_adapter(f"v{seed}", seed=seed)).version for seed in range(3)]


def prod(registry: Registry) -> str | None:
    return registry.aliases("demo").get(PROD)


def test_every_decision_is_on_the_record(registry: Registry, three: list[str]) -> None:
    registry.promote("demo", three[1], CANARY, ME)
    registry.promote("demo", three[1], PROD, ME)
    registry.promote("demo", three[1], PROD, ME)  # changes nothing
    registry.rollback("demo", PROD, ME)
    registry.refused("demo", three[2], PROD, ME)
    found = registry.log.decisions("demo")
    assert [(each["action"], each["alias"], each["from"], each["to"]) for each in found] == [
        ("install", PROD, None, three[0]),
        ("promote", CANARY, None, three[1]),
        ("promote", PROD, three[0], three[1]),
        ("rollback", PROD, three[1], three[0]),
        ("refuse", PROD, three[0], three[2]),
    ]
    assert {"at", "who", "reason", "forced", "seen"} <= set(found[1])
    assert (found[1]["who"], found[1]["reason"], found[1]["seen"]) == ("me", "because", {"accuracy": 0.5})
    assert registry.log.decisions("other") == []


def test_rolling_back_twice_goes_two_versions_back(registry: Registry, three: list[str]) -> None:
    for version in three[1:]:
        registry.promote("demo", version, PROD, ME)
    assert registry.rollback("demo", PROD, ME) == three[1] == prod(registry)
    assert registry.rollback("demo", PROD, ME) == three[0] == prod(registry)
    with pytest.raises(UnknownAdapter, match="no earlier version"):
        registry.rollback("demo", PROD, ME)
    registry.promote("demo", three[2], PROD, ME)
    assert registry.rollback("demo", PROD, ME) == three[0]


def test_a_version_that_was_removed_is_passed_over(registry: Registry, three: list[str]) -> None:
    for version in three[1:]:
        registry.promote("demo", version, PROD, ME)
    registry.remove("demo", three[1], ME)
    assert registry.rollback("demo", PROD, ME) == three[0]


def test_rolling_back_a_canary_ends_it(registry: Registry, three: list[str]) -> None:
    registry.promote("demo", three[1], CANARY, ME)
    registry.promote("demo", three[2], CANARY, ME)
    assert registry.rollback("demo", CANARY, ME) is None
    assert registry.aliases("demo") == {PROD: three[0]}
    with pytest.raises(UnknownAdapter, match="canary"):
        registry.rollback("demo", CANARY, ME)


def test_what_an_alias_means_is_not_removed(registry: Registry, three: list[str]) -> None:
    registry.promote("demo", three[1], "beta", ME)
    for version, alias in ((three[0], PROD), (three[1], "beta")):
        with pytest.raises(VersionInUse, match=alias):
            registry.remove("demo", version, ME)
    registry.remove("demo", three[2], ME)
    assert registry.versions("demo") == tuple(sorted(three[:2]))
    assert [each.name for each in registry.root.glob(".*")] == []
    with pytest.raises(UnknownAdapter):
        registry.remove("demo", three[2], ME)


def test_a_line_torn_by_a_power_cut_costs_that_line_only(registry: Registry, three: list[str]) -> None:
    path = registry.root / "audit.jsonl"
    path.write_text(path.read_text() + '{"at": "2026-')
    registry.promote("demo", three[1], PROD, ME)
    assert [each["action"] for each in registry.log.decisions()] == ["install", "promote"]
    assert registry.previous("demo", PROD) == three[0]


def test_a_promotion_that_a_crash_cut_off_after_its_record_never_was(registry: Registry, three: list[str]) -> None:
    registry.promote("demo", three[1], PROD, ME)
    before = registry.aliases("demo")
    registry.promote("demo", three[2], PROD, ME)
    (registry.root / "demo" / "aliases.json").write_text(json.dumps(before))  # as if it had not come to be written
    assert prod(registry) == three[1]
    registry.rollback("demo", PROD, ME)
    assert prod(registry) == three[0]
    registry.promote("demo", three[2], PROD, ME)
    registry.rollback("demo", PROD, ME)
    assert prod(registry) == three[0]


def _promote_often(root: Path, alias: str, versions: list[str]) -> None:
    registry = Registry(root)
    for number in range(40):
        registry.promote("demo", versions[number % 2], alias, Cause(who=alias))


def test_processes_that_change_aliases_at_once_lose_nothing(registry: Registry, three: list[str]) -> None:
    names = ("alpha", "beta", "gamma")
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_promote_often, args=(registry.root, name, three)) for name in names]
    for writer in writers:
        writer.start()
    done, bad = threading.Event(), list[object]()

    def watch() -> None:
        # A reader sees the old file or the new one, never half of either.
        while not done.is_set():
            try:
                registry.aliases("demo")
            except Exception as error:  # whatever it is, it is the finding
                bad.append(error)

    reader = threading.Thread(target=watch)
    reader.start()
    for writer in writers:
        writer.join()
    done.set()
    reader.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert bad == []
    assert registry.aliases("demo") == {PROD: three[0], **dict.fromkeys(names, three[1])}
    lines = (registry.root / "audit.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 1 + 3 * 40


def test_scores_are_written_into_the_manifest_and_the_version_stays(registry: Registry, three: list[str]) -> None:
    made = {"command": "breakeven eval adapter demo", "commit": "abc"}
    first = Score(name="accuracy", value=0.5, n=10, low=0.2, high=0.8, **made)
    better = Score(name="accuracy", value=0.9, n=10, low=0.6, high=1.0, **made)
    lost = Measurement(name="forgetting", value=0.01, unit="share", n=10, low=0.0, high=0.02, **made)
    registry.annotate("demo", three[0], [first])
    registry.annotate("demo", three[0], [better], [lost])
    found = registry.resolve(f"demo@{three[0]}").manifest
    assert found.scores[-1] == better
    assert [each.name for each in found.scores] == ["format_gained", "accuracy"]
    assert found.measurements == (lost,)
    with pytest.raises(MalformedManifest, match="high"):
        registry.annotate("demo", three[0], [Score(name="accuracy", value=0.5, n=1, low=0.0, high=float("nan"))])
    assert registry.resolve("demo").manifest == found


def test_threads_of_one_process_take_turns_by_a_lock_of_their_own(registry: Registry) -> None:
    """On NFS the file's lock is the process's, and does not keep its threads apart; no such filesystem is here."""
    with registry._aliases.locked():
        assert _TURN.locked()
    assert not _TURN.locked()


def test_a_roll_back_of_what_was_replaced_meanwhile_changes_nothing(registry: Registry, three: list[str]) -> None:
    registry.promote("demo", three[1], CANARY, ME)
    registry.promote("demo", three[2], CANARY, ME)
    before = registry.log.decisions("demo")
    registry.rollback("demo", CANARY, ME, present=three[1])
    assert registry.aliases("demo")[CANARY] == three[2]
    assert registry.log.decisions("demo") == before
    registry.rollback("demo", CANARY, ME, present=three[2])
    assert CANARY not in registry.aliases("demo")
    assert registry.state() == {"demo": {PROD: three[0]}}


def test_without_a_log_nothing_is_known_of_before(registry: Registry, three: list[str]) -> None:
    (registry.root / "audit.jsonl").unlink()
    for name, alias in (("demo", PROD), ("demo", CANARY), ("nobody", PROD)):
        assert registry.previous(name, alias) is None
        assert registry.since(name, alias) is None
    registry.promote("demo", three[1], PROD, ME)
    assert registry.since("demo", PROD) is not None
