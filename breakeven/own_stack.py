"""A stack for one command: `breakeven serve` as a child process, from its start to its end."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from serving.engine.orphan import die_with_parent
from serving.engine.protocol import EngineFailed

_START_S = 900
_STOP_S = 60
_READY = re.compile(r"ready: (http://\S+?/v1)")


@contextmanager
def own_stack(config: Path | None, log: Path, console: Console) -> Iterator[tuple[str, int]]:
    """The address of a gateway that runs until the block ends, and its process id; what it says goes to `log`.

    Raises EngineFailed with its last words when it does not start.
    """
    options = ["--config", str(config)] if config else []
    log.parent.mkdir(parents=True, exist_ok=True)
    console.print(f"starting the stack; its log is {log}")
    began = time.monotonic()
    with log.open("wb") as file:
        command = [sys.executable, "-m", "breakeven", "serve", "--port", "0", *options]
        process = subprocess.Popen(
            command,
            stdout=file,
            stderr=subprocess.STDOUT,
            # A session of its own: Ctrl-C reaches this command first, which then stops the stack in order.
            start_new_session=True,
            # And if this command is killed, the stack still stops.
            preexec_fn=die_with_parent(),  # noqa: PLW1509  # no thread of ours holds a lock here
        )
    try:
        url = _await_ready(process, log)
        console.print(f"the stack is ready after {time.monotonic() - began:.0f} s")
        yield url, process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if found := _READY.search(log.read_text(errors="replace")):
            return found.group(1)
        if process.poll() is not None:
            said = " ".join(log.read_text(errors="replace").split())[-600:]
            raise EngineFailed(f"the stack did not start: {said}")
        time.sleep(0.5)
    raise EngineFailed(f"the stack was not ready within {_START_S} s; {log} says why")
