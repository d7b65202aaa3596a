"""One owner for the store on disk.

Chroma is thread-safe but not process-safe: from a second process queries miss new documents and still return deleted
ones. The operating system's file lock is the truth, because it ends with its process however that dies; the JSON in
the file only tells others whom to ask.
"""

import fcntl
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from retrieval.errors import StoreLocked

_TRIES = 5
_PAUSE_S = 0.02  # a probe of owner() holds the lock for microseconds, and must not make a start fail


@dataclass(frozen=True, slots=True)
class Owner:
    """The process that owns the store, and the URL at which it answers."""

    pid: int
    url: str


class OwnerLock:
    """The lock at `path` (home/store.lock). Not re-entrant; release() is idempotent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    def acquire(self, url: str) -> None:
        """Takes the lock and leaves this process's id and `url` for others. Raises StoreLocked."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        for attempt in range(_TRIES):
            if _try_lock(file):
                break
            if attempt + 1 < _TRIES:
                time.sleep(_PAUSE_S)
        else:
            os.close(file)
            holder = self.owner() or Owner(0, "")
            raise StoreLocked(holder.pid, holder.url)
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"pid": os.getpid(), "url": url}).encode(), 0)
        self._file = file

    def release(self) -> None:
        """Gives the lock back, if this object holds it."""
        if self._file is not None:
            os.ftruncate(self._file, 0)
            os.close(self._file)  # ends the lock
            self._file = None

    def owner(self) -> Owner | None:
        """Who holds the lock now; None if nobody does, whatever the file says. Pid 0: held, by whom is unknown."""
        try:
            file = os.open(self._path, os.O_RDWR)
        except FileNotFoundError:
            return None
        try:
            if _try_lock(file):
                return None
            said = json.loads(os.pread(file, 4096, 0))
            return Owner(int(said["pid"]), str(said["url"]))
        except (ValueError, KeyError, TypeError):
            return Owner(0, "")
        finally:
            os.close(file)


def _try_lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
