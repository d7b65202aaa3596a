"""When the plugin is used, and that the gateway knows it: whether a slot must stay empty depends on that."""

import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from serving.engine.child import VllmChild
from serving.engine.device import Device
from serving.engine.lora_plugin import GROUP, NAME, OFF, TESTED, active, refusal, register, vllm_version
from serving.engine.loras import Loras
from serving.sections import Engine
from tests.conftest import ROOT

needs_vllm = pytest.mark.skipif(vllm_version() not in TESTED, reason=f"needs vLLM {', '.join(TESTED)}")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `pip install` leaves the entry point, whatever this environment was installed from."""
    folder = tmp_path / "site" / "offered-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: offered\nVersion: 1\n")
    (folder / "entry_points.txt").write_text(f"[{GROUP}]\n{NAME} = serving.engine.lora_plugin:register\n")
    monkeypatch.syspath_prepend(folder.parent)
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)


def child(home: Path, kind: str = "cpu", **settings: object) -> list[str]:
    device = Device(kind, "test", 1)  # type: ignore[arg-type]  # either kind
    engine = Engine.model_validate({"max_loras": 3, "max_cpu_loras": 6, **settings})
    made = VllmChild(engine, model="m", base_model="m", device=device, loras=Loras(), home=home)
    return made.command(1)


def slots(command: list[str]) -> int:
    return int(command[command.index("--max-loras") + 1])


def test_the_package_offers_it() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    assert EntryPoint(NAME, stated[NAME], GROUP).load() is register


@needs_vllm
@pytest.mark.usefixtures("installed")
def test_with_the_plugin_slots_are_swapped_and_without_it_one_stays_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert slots(child(tmp_path)) == 3
    assert OFF not in child(tmp_path)
    off = child(tmp_path, cpu_lora_plugin=False)
    assert slots(off) == 7
    assert off[off.index("--additional-config") + 1] == OFF
    # An operator who names the plugins of a vLLM that we start, and not this one.
    monkeypatch.setenv("VLLM_PLUGINS", "another")
    assert slots(child(tmp_path)) == 7
    monkeypatch.setenv("VLLM_PLUGINS", f"another,{NAME}")
    assert slots(child(tmp_path)) == 3
    assert slots(child(tmp_path, kind="gpu", cpu_lora_plugin=False)) == 3


def test_where_it_was_not_installed_it_is_not_counted_on(tmp_path: Path) -> None:
    lonely = (
        "import sys; sys.path.insert(0, sys.argv[1]); from serving.engine.lora_plugin import active; print(active({}))"
    )
    # -S: without site-packages, and so without anybody's entry points.
    done = subprocess.run(
        [sys.executable, "-S", "-c", lonely, ROOT], capture_output=True, check=True, cwd=tmp_path, text=True
    )
    assert done.stdout == "False\n"


def test_versions_it_was_not_tested_with_keep_their_own_operations() -> None:
    assert refusal({}, TESTED[-1]) is None
    assert "not 99.0" in (refusal({}, "99.0") or "")
    assert "not None" in (refusal({}, None) or "")
    assert "switched off" in (refusal({"grouped_cpu_lora": False}, TESTED[-1]) or "")
    assert refusal({"another": 1}, TESTED[-1]) is None
    assert not active({"VLLM_PLUGINS": ""})


def test_importing_it_loads_nothing_heavy() -> None:
    check = (
        "import sys, serving.engine.lora_plugin as p; "
        "print([m for m in ('torch', 'vllm', 'pydantic', 'aiohttp', 'yaml', 'chromadb') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, check=True, cwd=ROOT, text=True)
    assert done.stdout == "[]\n"


_IN_VLLM = """
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.platforms import current_platform
from serving.engine.lora_plugin import register
register(); register()
for settings in ({}, {"grouped_cpu_lora": False}):
    with set_current_vllm_config(VllmConfig(additional_config=settings)):
        print(current_platform.get_punica_wrapper())
"""


@needs_vllm
@pytest.mark.slow
def test_vllm_takes_the_operations_from_it_or_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", _IN_VLLM], capture_output=True, check=False, cwd=ROOT, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("serving.", "vllm."))]
    assert lines == [
        "serving.engine.grouped_lora.GroupedPunicaCPU",
        "vllm.lora.punica_wrapper.punica_cpu.PunicaWrapperCPU",
    ], done.stderr[-2000:]
    assert "switched off" in done.stdout + done.stderr
