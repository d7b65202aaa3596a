"""Servers as child processes of a measurement: started with exactly what it asks for, ended with all they started."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from benchmarks.errors import EndpointError
from serving.settings import child_environment

_START_S = 600.0
_POLL_S = 0.3


@contextmanager
def server(
    command: Sequence[str], ready: str, log: Path, environment: Mapping[str, str], stop_s: float = 30.0
) -> Iterator[int]:
    """Its process id, once `ready` (a URL) answers 200. EndpointError with its log's last lines if it never does."""
    with process(command, log, environment, stop_s) as child:
        _wait(child, ready, log)
        yield child.pid


@contextmanager
def process(
    command: Sequence[str], log: Path, environment: Mapping[str, str], stop_s: float = 30.0
) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that is not waited for. It is ended by Ctrl-C's signal, and what outlives that by `stop_s`, by kill."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        child = subprocess.Popen(
            command, stdout=file, stderr=file, env=child_environment(environment), start_new_session=True
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(stop_s)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def free_port() -> int:
    """A TCP port of loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(child: "subprocess.Popen[bytes]", ready: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and child.poll() is None:
        with suppress(URLError, OSError), urlopen(ready, timeout=5) as answer:  # noqa: S310  # our own server's
            if answer.status == 200:
                return
        time.sleep(_POLL_S)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]
    raise EndpointError("\n".join([f"no answer at {ready}; its log {log} ends:", *lines]))
