"""Where the engine of a gateway on this machine exposes its counters: the gateway starts it on a port of its own."""

from pathlib import Path

_SERVER = "vllm.entrypoints.openai.api_server"


def engine_metrics(gateway: int) -> str | None:
    """The Prometheus page of the vLLM server among the descendants of a process; None where /proc cannot tell."""
    parents = _parents()
    for candidate in sorted(parents):
        above = candidate
        while above not in (0, gateway):
            above = parents.get(above, 0)
        if above == gateway and (port := _port(candidate)):
            return f"http://127.0.0.1:{port}/metrics"
    return None


def _parents() -> dict[int, int]:
    found: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            found[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue  # it ended while it was looked at
    return found


def _port(process: int) -> str | None:
    try:
        words = Path(f"/proc/{process}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return None
    if _SERVER in words and "--port" in words[:-1]:
        return words[words.index("--port") + 1]
    return None
