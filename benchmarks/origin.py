"""Where a figure comes from: the command, the code and the machine, written beside it."""

import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Origin:
    """Of a figure made by `command`, as anyone can repeat it: without this machine's paths."""

    command: str
    commit: str
    started_at: str
    cpu_model: str
    cores: int
    memory_gib: float
    python: str

    @classmethod
    def here(cls, command: str) -> Self:
        """Of a run that starts now on this machine."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        python = platform.python_version()
        return cls(command, commit(), now, cpu_model(), os.cpu_count() or 0, memory_gib(), python)


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
