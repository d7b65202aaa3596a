"""`breakeven adapters`: the same through a running gateway and without one."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from adapters.errors import AdapterError
from serving import versions
from serving.remote import RemoteError
from serving.rollout.desk import Wish
from serving.sections import Settings
from tests.serving.adapter_folders import installed, write_adapter
from tests.serving.gateways import running, settings_for

GATED = {"tone": {"adapter": "tone", "gate": {"min_scores": {"accuracy": 0.85}}}}


async def test_an_operators_walk(tmp_path: Path) -> None:
    for through_gateway in (False, True):
        home = tmp_path / str(through_gateway)
        (first,) = installed(home, [1], scores=[("accuracy", 0.9)])
        (second,) = installed(home, [2], scores=[("accuracy", 0.95)])
        (bad,) = installed(home, [3], scores=[("accuracy", 0.5)])
        settings = settings_for(home, models=GATED)

        def work(
            settings: Settings = settings, names: Any = (first, second, bad), through: bool = through_gateway
        ) -> None:
            one, two, three = (each.version for each in names)
            shelf = versions.open_versions(settings)
            assert len(shelf.listing()) == 3
            # A gateway that runs has not seen what a command installed.
            step = versions.next_step(settings, names[0])
            assert (step is not None) == through and versions.next_step(settings, names[1]) is not None
            assert shelf.promote(Wish("tone", two, "prod", ""))["aliases"] == {"prod": two}
            with pytest.raises((AdapterError, RemoteError), match=r"at least 0\.85"):
                shelf.promote(Wish("tone", three, "prod", ""))
            forced = Wish("tone", three, "canary", "", "to see it rolled back", force=True)
            assert shelf.promote(forced)["aliases"] == {"prod": two, "canary": three}
            assert shelf.rollback("tone", "canary", "seen enough")["aliases"] == {"prod": two}
            assert shelf.rollback("tone", "prod", "")["aliases"] == {"prod": one}
            shelf.remove("tone", three, "not needed")
            with pytest.raises((AdapterError, RemoteError), match="is prod"):
                shelf.remove("tone", one, "")
            shown = shelf.show("tone")
            actions = [each["action"] for each in shown["decisions"]]
            assert actions == ["install", "promote", "refuse", "promote", "rollback", "rollback", "remove"]
            assert [each["reason"] for each in shown["decisions"]][3:5] == ["to see it rolled back", "seen enough"]
            with pytest.raises((AdapterError, RemoteError), match="nobody"):
                shelf.show("nobody")

        if through_gateway:
            async with running(settings):
                await asyncio.to_thread(work)
        else:
            work()


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    config = tmp_path / "breakeven.yaml"
    config.write_text("engine: {kind: simulated}\nmodels:\n  tone: {adapter: tone, gate: {max_latency_s: 2}}\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("BREAKEVEN_")}
    environment |= {"BREAKEVEN_HOME": str(tmp_path / "home"), "COLUMNS": "300"}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        line = [sys.executable, "-m", "breakeven", "adapters", *arguments, "--config", str(config)]
        return subprocess.run(line, capture_output=True, check=False, env=environment, text=True, timeout=120)

    return run


def test_the_command_line(tmp_path: Path, command: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    folders = [write_adapter(tmp_path / f"made-{seed}", seed, scores=[("accuracy", 0.9)]) for seed in (1, 2)]
    added = [command("add", str(folder)) for folder in folders]
    assert [each.returncode for each in added] == [0, 0], added[0].stderr
    first, second = (each.stdout.split()[0] for each in added)
    listed = command("list").stdout
    assert first in listed and second in listed and "accuracy 0.9" in listed and "prod" not in listed
    refused = command("promote", second)
    assert refused.returncode == 1
    assert "latency_s" in refused.stderr and "never measured" in refused.stderr and "Traceback" not in refused.stderr
    forced = command("promote", second, "--force", "--reason", "nobody times it")
    assert forced.stdout.strip() == f"prod is {second}"
    assert "by force" in command("show", "tone").stdout
    assert command("rm", first).stdout.strip() == f"{first} is removed"
    wrong = command("rollback", "tone")
    assert wrong.returncode == 1 and "no earlier version" in wrong.stderr
