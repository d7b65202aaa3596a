"""A training that is killed, paused or cancelled: what it ends with, and what it leaves."""

import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.manifest import WEIGHTS, Manifest
from adapters.registry import Registry
from adapters.runs import RunFolder
from tests.adapters.tiny import chat, make_base, start, write_recipe

PATIENCE_S = 120


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    # Lengths differ, so that the order of the examples matters, and each epoch has another.
    lines = [chat(f"Is {'very ' * (n % 5)}{n} a number?", "yes" * (1 + n % 3)) for n in range(10)]
    return write_recipe(tmp_path / "recipe", epochs=6, lines=lines)


def wait(done: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < deadline, f"waited too long for {what}"
        time.sleep(0.005)


def finish(*arguments: Any, **schedule: Any) -> None:
    process = start(*arguments, **schedule)
    process.join(PATIENCE_S)
    assert process.exitcode == 0


def result(out: Path) -> tuple[bytes, float | None, str]:
    events = RunFolder(out).journal.events()
    return (out / WEIGHTS).read_bytes(), events[-1].loss, Manifest.read(out).version


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_if_it_had_not_been(base: Path, recipe: Path, tmp_path: Path) -> None:
    """30 steps, a checkpoint after each second one, a kill at a random moment after each new checkpoint."""
    finish(recipe, base, tmp_path / "whole")
    killed, dice, kills = RunFolder(tmp_path / "killed"), random.Random(4), 0
    while not killed.out.exists():
        before = killed.checkpoint()
        process = start(recipe, base, killed.out, every_steps=2)
        wait(lambda b=before, p=process: killed.checkpoint() != b or not p.is_alive(), "a new checkpoint")  # type: ignore[misc]  # bound now
        time.sleep(dice.uniform(0, 0.15))
        process.kill()
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        assert not killed.running()
        kills += 1
    finish(recipe, base, killed.out)
    assert kills >= 3
    assert result(killed.out) == result(tmp_path / "whole")


def test_a_paused_run_goes_on_and_a_killed_writer_costs_only_its_checkpoint(
    base: Path, recipe: Path, tmp_path: Path
) -> None:
    finish(recipe, base, tmp_path / "whole")
    run = RunFolder(tmp_path / "paused")
    process = start(recipe, base, run.out, every_steps=7)
    wait(lambda: run.checkpoint() is not None, "a checkpoint")
    assert run.running()
    os.kill(process.pid, signal.SIGTERM)
    process.join(PATIENCE_S)
    last = run.journal.last()
    assert process.exitcode == 1 and last is not None and last.state == "paused"
    assert not run.running() and not run.out.exists()
    assert run.checkpoint() == run.checkpoints / f"checkpoint-{last.step}"

    unfinished = run.checkpoints / "checkpoint-29"
    unfinished.mkdir()
    (unfinished / "optimizer.pt").write_bytes(b"cut")
    finish(recipe, base, run.out)
    assert result(run.out) == result(tmp_path / "whole")
    resumed = [event.step for event in run.journal.events()].index(last.step)
    assert run.journal.events()[resumed].seconds < run.journal.events()[-1].seconds
    assert sorted(path.name for path in run.path.iterdir()) == ["fingerprint", "lock", "progress.jsonl"]


def test_a_cancelled_run_leaves_nothing_that_can_be_installed(base: Path, recipe: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "trained" / "out")
    process = start(recipe, base, run.out, every_steps=1)
    wait(lambda: run.checkpoint() is not None, "a checkpoint")
    run.request("cancel")
    process.join(PATIENCE_S)
    last = run.journal.last()
    assert last is not None and last.state == "cancelled"
    assert not run.out.exists() and not run.checkpoints.exists() and run.requested() is None
    assert Registry(tmp_path / "trained").names() == ()

    # A cancel that comes before the process does is not lost.
    run.request("cancel")
    process = start(recipe, base, run.out)
    process.join(PATIENCE_S)
    assert process.exitcode == 1 and not run.out.exists()
    finish(recipe, base, run.out)


def test_another_plan_for_the_same_folder_starts_from_nothing(base: Path, recipe: Path, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "out")
    process = start(recipe, base, run.out, every_steps=1)
    wait(lambda: run.checkpoint() is not None, "a checkpoint")
    process.kill()
    process.join()
    with (recipe / "train.jsonl").open("a") as file:
        file.write("\n" + chat("One more?", "yes"))
    finish(recipe, base, run.out)
    finish(recipe, base, tmp_path / "whole")
    assert result(run.out) == result(tmp_path / "whole")
    # The same command once more has nothing to do, but to say so if the run was killed just before it could.
    events = run.journal.events()
    finish(recipe, base, run.out)
    assert run.journal.events() == events
    run.journal.append(replace(events[-1], state="scoring", version=None))
    finish(recipe, base, run.out)
    last = run.journal.last()
    assert last is not None and (last.state, last.version) == ("succeeded", events[-1].version)
