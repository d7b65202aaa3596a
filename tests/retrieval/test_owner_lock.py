"""The lock follows the process that holds it, whatever the file says."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from retrieval.errors import StoreLocked
from retrieval.lock import Owner, OwnerLock

HOLD = """
import sys
from pathlib import Path
from retrieval.lock import OwnerLock
OwnerLock(Path(sys.argv[1])).acquire("http://127.0.0.1:8123")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def holder(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"held\n"
            yield process
        finally:
            process.kill()


def test_nobody_then_me_then_nobody(tmp_path: Path) -> None:
    lock = OwnerLock(tmp_path / "home" / "store.lock")
    assert lock.owner() is None
    lock.acquire("http://127.0.0.1:8000")
    assert lock.owner() == Owner(os.getpid(), "http://127.0.0.1:8000")
    lock.release()
    lock.release()
    assert lock.owner() is None


def test_another_process_is_named_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    with holder(path) as process:
        lock = OwnerLock(path)
        assert lock.owner() == Owner(process.pid, "http://127.0.0.1:8123")
        with pytest.raises(StoreLocked, match=f"process {process.pid} at http://127.0.0.1:8123") as caught:
            lock.acquire("http://127.0.0.1:9000")
        assert (caught.value.owner_pid, caught.value.owner_url) == (process.pid, "http://127.0.0.1:8123")
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert str(process.pid) in path.read_text()  # the file still says so
        assert lock.owner() is None
        lock.acquire("http://127.0.0.1:9000")
        assert lock.owner() == Owner(os.getpid(), "http://127.0.0.1:9000")
        lock.release()


def test_a_held_lock_with_a_broken_file_has_an_unknown_owner(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    with holder(path) as process:
        path.write_text("{")
        assert OwnerLock(path).owner() == Owner(0, "")
        with pytest.raises(StoreLocked):
            OwnerLock(path).acquire("")
        assert process.poll() is None


def test_asking_for_the_owner_does_not_make_a_start_fail(tmp_path: Path) -> None:
    path = tmp_path / "store.lock"
    path.touch()
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            OwnerLock(path).owner()

    asker = threading.Thread(target=ask)
    asker.start()
    try:
        for _ in range(50):
            lock = OwnerLock(path)
            lock.acquire("")
            lock.release()
    finally:
        stop.set()
        asker.join()
