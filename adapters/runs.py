"""The folder of a training run, beside the adapter it will write: what lets a killed run go on, and others follow it.

`<out>.run/` holds progress.jsonl (progress.py), checkpoints/, the fingerprint of the plan, a lock, and `stop`, a file
in which anyone may ask the run to pause or to give up. Nothing here is an adapter: the registry never sees it. Locks
are the kernel's and end with their process, whatever ends it.
"""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from adapters.errors import OutputBusy
from adapters.progress import Journal

StopRequest = Literal["pause", "cancel"]
COMPLETE = "complete"
# Exit statuses of a training's process, besides 0 and 1. EX_TEMPFAIL of sysexits.h, try again: paused, or the device is
# busy; and what a shell says of Ctrl-C.
EXIT_PAUSED, EXIT_CANCELLED = 75, 130
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Schedule:
    """When to write a checkpoint: after so many seconds, and after so many steps if given. `max_steps` -1: no limit."""

    every_s: float = 120.0
    every_steps: int | None = None
    max_steps: int = -1


class RunFolder:
    """The run that writes the adapter folder `out`."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = out.with_name(f"{out.name}.run")
        self.journal = Journal(self.path / "progress.jsonl")
        self.checkpoints = self.path / "checkpoints"
        self.scratch = self.path / "adapter"
        self._stop = self.path / "stop"
        self._fingerprint = self.path / "fingerprint"

    def request(self, what: StopRequest) -> None:
        """Ask the run to pause or to cancel: it looks at each step. A cancel that comes before the run does is kept."""
        self.path.mkdir(parents=True, exist_ok=True)
        fresh = self._stop.with_suffix(f".{os.getpid()}")
        fresh.write_text(what, encoding="utf-8")
        fresh.replace(self._stop)

    def requested(self) -> StopRequest | None:
        """What the run was asked to do."""
        try:
            stated = self._stop.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return "cancel" if stated == "cancel" else "pause"

    def forget_request(self) -> None:
        """What was asked for is done, or is not wanted any more."""
        self._stop.unlink(missing_ok=True)

    def running(self) -> bool:
        """Whether a process is at it now; a journal that ends in `training` without one was killed."""
        return _is_locked(self.path / "lock")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Raises OutputBusy when another process trains into the same folder."""
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path / "lock", f"training into {self.out} is already running"):
            yield

    def open(self, fingerprint: str) -> None:
        """Go on with what is there if it is the same run, else start from nothing."""
        if not self._is_of(fingerprint):
            shutil.rmtree(self.checkpoints, ignore_errors=True)
            self.journal.path.unlink(missing_ok=True)
            self._fingerprint.write_text(fingerprint, encoding="utf-8")
        self.keep_only(self.checkpoint())
        shutil.rmtree(self.scratch, ignore_errors=True)

    def finished(self, fingerprint: str) -> bool:
        """Whether `out` is what this very run wrote."""
        return self.out.is_dir() and self._is_of(fingerprint)

    def checkpoint(self) -> Path | None:
        """The last one that was written to its end."""
        steps = [int(path.parent.name.rpartition("-")[2]) for path in self.checkpoints.glob(f"checkpoint-*/{COMPLETE}")]
        return self.checkpoints / f"checkpoint-{max(steps)}" if steps else None

    def keep_only(self, checkpoint: Path | None) -> None:
        """Remove the others, each so that a kill in between leaves none that looks complete."""
        for other in self.checkpoints.glob("checkpoint-*"):
            if other != checkpoint:
                (other / COMPLETE).unlink(missing_ok=True)
                shutil.rmtree(other, ignore_errors=True)

    def clear(self) -> None:
        """Remove everything but the journal."""
        for folder in (self.checkpoints, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
        self._stop.unlink(missing_ok=True)

    def _is_of(self, fingerprint: str) -> bool:
        return self._fingerprint.is_file() and self._fingerprint.read_text(encoding="utf-8") == fingerprint


@contextmanager
def locked(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock at `path`. Raises OutputBusy, opening with `busy`, when another process holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        if not _take(file):
            pid = os.pread(file, 32, 0).decode(errors="replace") or "unknown"
            raise OutputBusy(f"{busy} (pid {pid}): wait for it, or pause it with `kill -TERM {pid}`")
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(file)


def _take(file: int) -> bool:
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            time.sleep(0.05)  # somebody may only be looking, see _is_locked
    return False


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False
