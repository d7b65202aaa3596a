"""What tests of several folders share: real servers, and one real stack for all end-to-end tests.

The stack is `breakeven serve` as a user starts it, with vLLM, Chroma and the adapter. Its state stays in .breakeven/e2e
between runs, so that only the first one converts the model and compiles. A run starts the stack once (about a minute)
and ends it with Ctrl-C, checking that nothing it started is left.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.servers import Cluster, chroma_server, empty_chroma

ROOT = Path(__file__).parents[1]
HOME = ROOT / ".breakeven" / "e2e"
COMMAND = Path(sys.executable).parent / "breakeven"
START_TIMEOUT_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with a slow test first: side by side, the last file to begin is the one that all wait for."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@dataclass(frozen=True)
class Stack:
    """A running stack: its address, its process, and everything it printed until it was ready."""

    url: str
    process: "subprocess.Popen[str]"
    printed: str

    def descendants(self) -> set[int]:
        """Ids of all processes below the gateway."""
        return _below(self.process.pid)

    def engine_core(self) -> int:
        """Id of vLLM's engine core, which its API server outlives for a while when it is killed."""
        return next(pid for pid in self.descendants() if "EngineCore" in _command_line(pid)[0])

    def engine_url(self) -> str:
        """Address of the vLLM child, whose /metrics tells how many requests it is running."""
        arguments = _command_line(self._server())
        return f"http://127.0.0.1:{arguments[arguments.index('--port') + 1]}"

    def engine_key(self) -> str:
        """The random key of the vLLM child, which only its environment holds."""
        variables = Path(f"/proc/{self._server()}/environ").read_text().split("\0")
        return next(each.partition("=")[2] for each in variables if each.startswith("VLLM_API_KEY="))

    def _server(self) -> int:
        return next(pid for pid in self.descendants() if "vllm.entrypoints.openai.api_server" in _command_line(pid))


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack; its log is shown if it does not start."""
    log = tmp_path_factory.mktemp("e2e") / "serve.log"
    with log.open("w") as file:
        process = subprocess.Popen(
            [COMMAND, "serve", "--port", "0"],
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=_environment(),
        )
    try:
        yield Stack(_wait_until_ready(process, log), process, log.read_text())
        left = _below(process.pid) | {process.pid}
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0, log.read_text()[-3000:]
        assert "leaked" not in log.read_text(), log.read_text()[-3000:]
        time.sleep(0.5)
        assert not [pid for pid in left if _alive(pid)], "something the gateway started is still running"
    finally:
        process.kill()


def run_command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run `breakeven` beside the stack, on the same state."""
    return subprocess.run(
        [COMMAND, *arguments], capture_output=True, check=False, cwd=ROOT, env=_environment(), text=True, timeout=300
    )


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("BREAKEVEN_")}
    return {**kept, "BREAKEVEN_HOME": str(HOME)}


def _wait_until_ready(process: "subprocess.Popen[str]", log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        for line in log.read_text().splitlines():
            if line.startswith("ready: "):
                return line.removeprefix("ready: ").removesuffix("/v1")
        time.sleep(0.5)
    pytest.fail(f"the stack did not start:\n{log.read_text()[-5000:]}")


def _below(pid: int) -> set[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
    found, edge = set(), {pid}
    while edge:
        edge = {child for child, parent in parents.items() if parent in edge}
        found |= edge
    return found


def _command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture(scope="session")
def chroma_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Chroma server for all tests; whoever uses it finds or makes it empty."""
    with chroma_server(tmp_path_factory.mktemp("chroma-server")) as (url, _):
        yield url


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A real PostgreSQL for all tests; whoever uses it finds or makes it empty."""
    cluster = Cluster()
    yield cluster
    cluster.stop()
    cluster.remove()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str | None:
    """Where the test's records are: in files of its own, or in the real PostgreSQL, empty."""
    if request.param == "sqlite":
        return None
    cluster: Cluster = request.getfixturevalue("postgres")
    cluster.empty()
    return cluster.url()


@pytest.fixture
def servers(chroma_url: str, postgres: Cluster) -> tuple[str, Cluster]:
    """Both, empty."""
    empty_chroma(chroma_url)
    postgres.empty()
    return chroma_url, postgres
