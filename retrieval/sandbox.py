"""Where files are parsed: in a child process with limits, so that a bomb or a crash costs one file and nothing else.

One child serves many files, because its libraries take two seconds to import. It is replaced when a file broke it and
after every few hundred files, and ended when nobody needs it for a while.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from retrieval.errors import UnreadableDocument

_COMMAND = "import sys; sys.path.insert(0, sys.argv[1]); from retrieval.worker import main; main()"
_START_S = 60
_FILES = 500  # leaks of other people's parsers end with the child
_IDLE_S = 60.0

_PROBLEMS = {
    "cpu": "parsing it took more than {cpu_s} s of processor time; split it, or raise ingestion.parse_cpu_s",
    "crash": "its parser crashed; open it, save it again and try that, or convert it to text",
    "encoding": "it is not UTF-8 text and its encoding cannot be told; save it as UTF-8",
    "encrypted": "it is encrypted; save it without a password",
    "entities": "it declares XML entities, which no office program does; open and save it again if you trust it",
    "invalid": "it is not a valid {kind} file; open and save it again",
    "large": "its text is longer than {text_bytes} bytes; split it",
    "memory": "parsing it took more than {memory_mib} MiB of memory; split it, or raise ingestion.parse_memory_mib",
    "mixed": "some of its lines are UTF-8 and some are not; save it as UTF-8",
    "renamed": "it is really a {detail} file; rename it",
    "stopping": "the gateway is stopping; ingest it again when it is back",
    "unpacks": "it unpacks to {detail}, more than the {memory_mib} MiB that parsing may take; split it",
    "wall": "parsing it took longer than {wall_s} s; split it, or raise ingestion.parse_wall_s",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one file: memory beside the libraries, seconds of processor time and of the clock, bytes of resulting text."""

    memory_mib: int = 1024
    cpu_s: int = 120
    wall_s: int = 180
    text_bytes: int = 64_000_000


class Sandbox:
    """Thread-safe: one file at a time, the others wait. Costs nothing before the first file."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._lock = threading.Lock()
        self._child: _Child | None = None
        self._closing = threading.Event()
        self._idle: threading.Timer | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is one."""
        child = self._child
        return child.process.pid if child else None

    def convert(self, source: str, suffix: str, data: bytes) -> tuple[str, str | None]:
        """Text, and the title if the format has one. Raises UnreadableDocument."""
        with self._lock:
            if self._closing.is_set():
                raise self._unreadable(source, suffix, "stopping")
            if self._idle is not None:
                self._idle.cancel()
            try:
                child = self._child = self._child or _Child(self.limits)
                answer, text = child.ask(suffix, data)
            except _Broken as error:
                self._end()
                problem = "stopping" if self._closing.is_set() else error.problem
                raise self._unreadable(source, suffix, problem) from None
            except BaseException:
                self._end()
                raise
            if answer["problem"] == "memory" or child.answered >= _FILES:
                self._end()
            else:
                self._idle = threading.Timer(_IDLE_S, self._rest)
                self._idle.daemon = True
                self._idle.start()
        if answer["problem"]:
            raise self._unreadable(source, suffix, answer["problem"], answer.get("detail") or "")
        return text, answer["title"]

    def close(self) -> None:
        """Gives up the file that is being parsed and refuses those that come later."""
        self._closing.set()
        if (child := self._child) is not None:
            child.kill()
        self._rest()

    def _rest(self) -> None:
        with self._lock:
            if self._idle is not None:
                self._idle.cancel()
                self._idle = None
            self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None

    def _unreadable(self, source: str, suffix: str, problem: str, detail: str = "") -> UnreadableDocument:
        limits = {name: getattr(self.limits, name) for name in Limits.__slots__}
        return UnreadableDocument(source, _PROBLEMS[problem].format(kind=suffix[1:], detail=detail, **limits))


class _Broken(Exception):
    """The child did not answer; `problem` says why."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


class _Child:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.answered = 0
        ours, theirs = socket.socketpair()
        with theirs:
            numbers = [theirs.fileno(), limits.memory_mib << 20, limits.cpu_s, limits.wall_s]
            self.process = subprocess.Popen(
                # -P: nothing is imported from the current directory, which may be the documents' own.
                [sys.executable, "-P", "-c", _COMMAND, str(Path(__file__).parents[1]), *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._connection = Connection(ours.detach())
        if not self._connection.poll(_START_S) or self._receive(16) != b"ready":
            self.end()
            raise RuntimeError("the parser process does not start; its message is above")

    def ask(self, suffix: str, data: bytes) -> tuple[dict[str, str | None], str]:
        """Raises _Broken."""
        late = threading.Event()
        watchdog = threading.Timer(self._limits.wall_s, self._stop_late, [late])
        watchdog.daemon = True
        watchdog.start()
        try:
            self._connection.send_bytes(json.dumps({"suffix": suffix}).encode())
            self._connection.send_bytes(data)
            answer: dict[str, str | None] = json.loads(self._receive(1 << 20))
            text = self._receive(self._limits.text_bytes)
        except (EOFError, OSError) as error:
            raise _Broken(self._cause(late.is_set(), error)) from error
        finally:
            watchdog.cancel()
        self.answered += 1
        return answer, text.decode()

    def end(self) -> None:
        """With everything that it started."""
        self.kill()
        self.process.wait()
        self._connection.close()

    def _stop_late(self, late: threading.Event) -> None:
        late.set()
        self.kill()

    def _receive(self, limit: int) -> bytes:
        return self._connection.recv_bytes(limit)

    def _cause(self, late: bool, error: Exception) -> str:
        if late:
            return "wall"
        if isinstance(error, OSError) and not isinstance(error, ConnectionError):
            return "large"  # more than we wanted to receive
        ended = self.process.wait(_START_S)
        return "cpu" if ended == -signal.SIGXCPU else "wall" if ended == -signal.SIGALRM else "crash"

    def kill(self) -> None:
        """At once, and whatever it started with it; end() must follow."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
