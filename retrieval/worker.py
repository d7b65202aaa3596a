"""The child process that converts files for retrieval.sandbox: limits itself, then answers one file after the other.

Its parent ends it when a file takes too long by the clock; memory and processor time are limits of the operating
system, so that even native code cannot pass them. It opens no connections and starts no programs.
"""

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from retrieval.formats import Refused, convert

_FORBIDDEN = ("socket.connect", "socket.bind", "socket.sendto", "subprocess.Popen", "os.system", "os.exec", "os.fork")
_GRACE_S = 5


def main() -> None:
    """Arguments: the descriptor of the connection, memory in bytes, seconds of processor and of the clock."""
    descriptor, memory_bytes, cpu_s, wall_s = map(int, sys.argv[2:6])
    # Libraries write warnings, and with them parts of documents, to wherever the gateway writes.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.addaudithook(_forbid)
    _limit_memory(memory_bytes)
    with Connection(descriptor) as connection, suppress(EOFError, ConnectionError):
        connection.send_bytes(b"ready")
        while True:
            request = json.loads(connection.recv_bytes())
            data = connection.recv_bytes()
            _limit_time(cpu_s, wall_s)
            answer, text = _answer(request["suffix"], data, memory_bytes)
            connection.send_bytes(json.dumps(answer).encode())
            connection.send_bytes(text)
            signal.alarm(0)


def _answer(suffix: str, data: bytes, memory_bytes: int) -> tuple[dict[str, str | None], bytes]:
    try:
        text, title = convert(suffix, data, memory_bytes)
        return {"problem": None, "title": title}, text.encode("utf-8", "replace")
    except Refused as error:
        return {"problem": error.problem, "detail": error.detail}, b""
    except MemoryError:
        return {"problem": "memory"}, b""
    except Exception:  # parsers raise anything on a broken file; its words may hold the document's text
        return {"problem": "invalid"}, b""


def _forbid(event: str, _: tuple[object, ...]) -> None:
    if event in _FORBIDDEN:
        raise PermissionError(event)


def _limit_memory(more: int) -> None:
    """What is mapped now, mostly libraries, and `more` bytes. Where the system does not tell, the clock must do."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # if the machine has less, this process goes first
    with suppress(OSError, ValueError):
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + more, mapped + more))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(cpu_s: int, wall_s: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    with suppress(OSError, ValueError):
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + cpu_s, hard))
    signal.alarm(wall_s + _GRACE_S)  # should the parent be gone, nobody else would end it
