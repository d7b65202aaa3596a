"""Gateways and load as processes pinned to cores, and what they have used."""

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError

TASKSET = "/usr/bin/taskset"
_START_S = 120.0
_STOP_S = 20.0


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds since the start, and resident MB now, of a process with all its children."""

    cpu_s: float
    rss_mb: float


def usage(pid: int) -> Usage:
    """From the scheduler's own accounts, in nanoseconds: the usual ones count ticks of 10 ms."""
    nanoseconds = pages = 0
    for one in (pid, *_below(pid)):
        with suppress(OSError):  # it has just ended
            for thread in Path(f"/proc/{one}/task").iterdir():
                nanoseconds += int((thread / "schedstat").read_text().split()[0])
            pages += int(Path(f"/proc/{one}/statm").read_text().split()[1])
    return Usage(nanoseconds / 1e9, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)


@contextmanager
def started(command: Sequence[str], core: int, log: Path, extra: Mapping[str, str] | None = None) -> Iterator[int]:
    """The process id of `command` on `core`, until the end of the context. `extra` goes on top of the environment."""
    wrapped = ["env", *(f"{name}={value}" for name, value in (extra or {}).items()), *command]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen([TASKSET, "-c", str(core), *wrapped], stdout=file, stderr=file)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            for one in (*_below(process.pid), process.pid):
                with suppress(ProcessLookupError):
                    os.kill(one, 9)
            process.wait()


def until_answered(url: str, key: str, pid: int, log: Path) -> None:
    """Return when `url` answers 200. Raises BenchmarkError with the process' last lines."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and Path(f"/proc/{pid}").exists():
        with suppress(OSError, urllib.error.URLError):
            asked = urllib.request.Request(url, headers={"authorization": f"Bearer {key}"})  # noqa: S310  # a server of ours on loopback
            with urllib.request.urlopen(asked, timeout=5) as answer:  # noqa: S310  # the same server as above
                if answer.status == 200:
                    return
        time.sleep(0.2)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-10:]
    raise BenchmarkError("\n".join([f"nothing answers at {url}; the last lines of its log:", *lines]))


def _below(pid: int) -> list[int]:
    found, edge = [], [pid]
    while edge:
        parent = edge.pop()
        with suppress(OSError):
            for thread in Path(f"/proc/{parent}/task").iterdir():
                children = [int(child) for child in (thread / "children").read_text().split()]
                found += children
                edge += children
    return found
