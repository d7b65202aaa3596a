"""Servers of a measurement: there when they are needed, gone afterwards with all they started, and frank when dead."""

import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.errors import EndpointError
from benchmarks.processes import free_port, server

# Answers 200 to everything, ignores the first signal, and has a child that ignores it too.
STUBBORN = """
import http.server, pathlib, signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
pathlib.Path(sys.argv[2]).write_text(str(child.pid))
class Always(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Always).serve_forever()
"""


def test_one_that_ends_shows_its_last_lines(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('out of memory'); sys.exit(3)"]
    began = time.monotonic()
    with (
        pytest.raises(EndpointError, match=r"its log .*log ends:\nout of memory"),
        server(command, f"http://127.0.0.1:{free_port()}/", tmp_path / "log", {}),
    ):
        pytest.fail("it never answered")
    assert time.monotonic() - began < 30


def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    port, child = free_port(), tmp_path / "child"
    command = [sys.executable, "-c", STUBBORN, str(port), str(child)]
    with server(command, f"http://127.0.0.1:{port}/", tmp_path / "log", {}, stop_s=0.5) as pid:
        pids = [pid, int(child.read_text())]
        assert all(_alive(each) for each in pids)
    deadline = time.monotonic() + 5
    while any(_alive(each) for each in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(each) for each in pids)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return False
