"""Real servers for the tests, on loopback and thrown away afterwards: Chroma's own, and a private PostgreSQL."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import chromadb
import httpx
import psycopg
import pytest
from chromadb.config import Settings

PASSWORD = "only-for-tests"
SCHEMAS = ("breakeven", "breakeven_gateway", "breakeven_ledger", "breakeven_budgets")
_START_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def chroma_server(folder: Path, port: int | None = None) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """(URL, process) of a server that keeps its data in `folder`."""
    port = port or free_port()
    command = [
        Path(sys.executable).parent / "chroma",
        "run",
        "--path",
        folder,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    quiet = subprocess.DEVNULL
    with subprocess.Popen([str(part) for part in command], stdout=quiet, stderr=quiet) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for_http(f"{url}/api/v2/heartbeat", process)
            yield url, process
        finally:
            process.kill()


def _wait_for_http(url: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            httpx.get(url, timeout=5).raise_for_status()
            return
        except httpx.HTTPError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{url} did not come up") from error
            time.sleep(0.05)


def empty_chroma(url: str) -> None:
    """Drops every collection."""
    client = chromadb.HttpClient(url, settings=Settings(anonymized_telemetry=False))
    for collection in client.list_collections():
        client.delete_collection(collection.name)


def postgres_programs() -> Path | None:
    """The folder of initdb and pg_ctl, of the newest version there is."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return versions[-1].parent if versions else None


class Cluster:
    """A private PostgreSQL. Run as root it becomes the user `postgres`, because PostgreSQL refuses root."""

    def __init__(self) -> None:
        programs = postgres_programs()
        if programs is None:
            pytest.skip("NOT TESTED: PostgreSQL is not installed (`apt-get install postgresql`; .ci/run does it)")
        self._programs = programs
        self.folder = Path(tempfile.mkdtemp(prefix="breakeven-pg-"))
        self.folder.chmod(0o755)
        self._data, secret = self.folder / "data", self.folder / "password"
        secret.write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self.folder, secret):
                shutil.chown(path, "postgres")
        self.port = free_port()
        self._run("initdb", "-U", "breakeven", "-A", "scram-sha-256", f"--pwfile={secret}", "-E", "UTF8", "--no-sync")
        self.start()

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://breakeven:{PASSWORD}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -k {self.folder} -c fsync=off"
        self._run("pg_ctl", "-w", "-l", str(self.folder / "log"), "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-w", "-m", "immediate", "stop")

    def remove(self) -> None:
        shutil.rmtree(self.folder)

    def empty(self) -> None:
        """Removes all that Breakeven has in it."""
        self.run_sql(f"DROP SCHEMA IF EXISTS {', '.join(SCHEMAS)} CASCADE")

    def run_sql(self, sql: str, values: Mapping[str, object] | None = None) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            cursor = connection.execute(sql, values)
            return cursor.fetchall() if cursor.description else []

    def _run(self, program: str, *arguments: str) -> None:
        become = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        command = [*become, str(self._programs / program), "-D", str(self._data), *arguments]
        done = subprocess.run(
            command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd="/"
        )
        assert done.returncode == 0, done.stderr
