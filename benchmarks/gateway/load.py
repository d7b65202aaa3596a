"""The load side: ours in Python, or C programs built from a folder, which take the same arguments."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.errors import BenchmarkError
from benchmarks.gateway.processes import TASKSET

_C_KEY = "sk-1234"  # what the C client sends


@dataclass(frozen=True, slots=True)
class Load:
    """One scenario: a closed loop over `connections`, of whole answers or of streams of `tokens` every `delay_ms`."""

    name: str
    connections: int
    seconds: float
    stream: bool = False
    tokens: int = 64
    delay_ms: int = 0


WHOLE_64 = Load("64 connections", 64, 2.5)
WHOLE_1 = Load("1 connection", 1, 1)
STREAMS_1 = Load("1 stream", 1, 2, True, 10, 20)
STREAMS_64 = Load("64 streams", 64, 6, True, 128, 20)
STREAMS_200 = Load("200 streams", 200, 4.5, True, 30, 50)


@dataclass(frozen=True, slots=True)
class Side:
    """The programs, and the core they run on."""

    folder: Path
    core: int
    native: bool

    def upstream(self, port: int) -> list[str]:
        """Its command."""
        if self.native:
            return [str(self.folder / "upstream"), str(port)]
        return [sys.executable, "-m", "benchmarks.gateway.upstream", str(port)]

    def run(self, load: Load, key: str, port: int, path: str) -> dict[str, Any]:
        """What the client saw. Raises BenchmarkError if it did not get through."""
        kind = "sse" if load.stream else "json"
        shape = [str(port), path, str(load.connections), str(load.seconds), kind]
        sizes = [str(load.tokens), str(load.delay_ms), "0"]
        client = [str(self._client(key))] if self.native else [sys.executable, "-m", "benchmarks.gateway.client", key]
        command = [TASKSET, "-c", str(self.core), *client, *shape, *sizes]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=load.seconds + 60)
        try:
            found: dict[str, Any] = json.loads(done.stdout)
        except json.JSONDecodeError:
            raise BenchmarkError(f"the load client failed: {done.stdout[-300:]}{done.stderr[-300:]}") from None
        return {"load": asdict(load), **found}

    def _client(self, key: str) -> Path:
        """The C client has its key in its text."""
        program = self.folder / f"client-{key[-8:]}"
        if not program.exists():
            text = (self.folder / "client.c").read_text(encoding="utf-8").replace(_C_KEY, key)
            source = program.with_suffix(".c")
            source.write_text(text, encoding="utf-8")
            _compile(source, program)
        return program


def built(source: Path | None, folder: Path, core: int) -> Side:
    """The load side: from the C programs `upstream.c` and `client.c` in `source`, or ours. Raises BenchmarkError."""
    if source is not None:
        folder.mkdir(parents=True, exist_ok=True)
        _compile(source / "upstream.c", folder / "upstream")
        (folder / "client.c").write_bytes((source / "client.c").read_bytes())
    return Side(folder, core, source is not None)


def _compile(source: Path, program: Path) -> None:
    command: Sequence[str] = ("cc", "-O2", "-w", "-o", str(program), str(source))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{source.name} cannot be built: {done.stderr[-500:]}")
