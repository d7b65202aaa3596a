"""`python -m benchmarks.gateway --work FOLDER`: every gateway under the same loads, and the table."""

import argparse
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.errors import BenchmarkError
from benchmarks.gateway.load import STREAMS_1, STREAMS_64, STREAMS_200, WHOLE_1, WHOLE_64, Load, Side, built
from benchmarks.gateway.peers import CHAT, Launch, Peer, Place, peers
from benchmarks.gateway.processes import started, until_answered, usage
from benchmarks.gateway.table import table
from benchmarks.origin import Origin
from benchmarks.result_file import keep

_UPSTREAM, _GATEWAY = 19180, 19181
_LOADS = (WHOLE_64, WHOLE_1, STREAMS_64, STREAMS_1, STREAMS_200)
_SOAK_REQUESTS = 100_000


def main() -> None:
    """Writes one JSON file with every raw result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for environments, configurations and logs")
    parser.add_argument("--native", type=Path, help="folder with upstream.c and client.c to use for the load side")
    parser.add_argument("--production-stack", type=Path, help="checkout of vLLM's production-stack")
    parser.add_argument("--only", nargs="*", help="names of gateways; default: all")
    parser.add_argument("--seconds", type=float, help="of each load; default: 2 to 6, as each needs")
    parser.add_argument("--soak", action="store_true", help="also send 100,000 requests and watch the memory of ours")
    parser.add_argument("--cores", type=int, nargs=2, default=(0, 1), help="of the gateway, and of everything else")
    parser.add_argument("--out", type=Path, help="the JSON file")
    given = parser.parse_args()
    try:
        _run(given, Console(width=140), Console(stderr=True))
    except BenchmarkError as error:
        sys.exit(f"error: {error}")


def _run(given: argparse.Namespace, output: Console, progress: Console) -> None:
    work: Path = given.work.resolve()
    known = [replace(peer, soak=peer.soak and given.soak) for peer in peers(given.production_stack)]
    chosen = [peer for peer in known if not given.only or peer.name in given.only]
    loads = [replace(load, seconds=given.seconds) if given.seconds else load for load in _LOADS]
    side = built(given.native, work / "load", given.cores[1])
    origin = Origin.here("python -m benchmarks.gateway --work FOLDER" + (" --native FOLDER" if given.native else ""))
    programs = {peer.name: _installed(peer, work, progress) for peer in chosen}
    results: list[dict[str, Any]] = []
    url = f"http://127.0.0.1:{_UPSTREAM}"
    with started(side.upstream(_UPSTREAM), side.core, work / "upstream.log") as pid:
        until_answered(f"{url}/v1/models", "", pid, work / "upstream.log")
        direct = [side.run(load, "sk-1234", _UPSTREAM, CHAT) for load in loads]
        results.append({"name": "direct", "features": "", "loads": direct})
        for peer in chosen:
            progress.print(f"{peer.name} ...", markup=False)
            folder = work / "gateways" / peer.name.replace(" ", "-").replace(",", "")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            launch = peer.launch(programs[peer.name], Place(folder, _GATEWAY, url))
            try:
                results.append(_measured(peer, launch, folder / "log", side, loads, given.cores[0]))
            except BenchmarkError as error:
                progress.print(f"{peer.name} was not measured: {error}", markup=False)
                results.append({"name": peer.name, "features": peer.features, "failed": str(error)})
            _write(given.out, origin, side, results)
    output.print(table(results))


def _write(out: Path | None, origin: Origin, side: Side, results: Sequence[dict[str, Any]]) -> None:
    """After each gateway: a run that is cut short keeps what it has."""
    load_side = "C" if side.native else "Python"
    document = {"origin": origin, "load_side": load_side, "load_average": os.getloadavg()[0], "gateways": results}
    keep(document, out)


def _measured(peer: Peer, launch: Launch, log: Path, side: Side, loads: Sequence[Load], core: int) -> dict[str, Any]:
    with started(launch.command, core, log, launch.environment) as pid:
        until_answered(f"http://127.0.0.1:{_GATEWAY}{launch.ready}", launch.key, pid, log)
        time.sleep(1)
        found: list[dict[str, Any]] = []
        result = {"name": peer.name, "features": peer.features, "rss_start_mb": usage(pid).rss_mb, "loads": found}
        side.run(replace(loads[0], seconds=1), launch.key, _GATEWAY, peer.path)
        result["rss_warm_mb"] = usage(pid).rss_mb
        for load in loads:
            before = usage(pid)
            seen = side.run(load, launch.key, _GATEWAY, peer.path)
            after = usage(pid)
            found.append({**seen, "cpu_s": after.cpu_s - before.cpu_s, "rss_mb": after.rss_mb})
        if peer.soak:
            result["soak"] = _soaked(peer, launch, side, pid)
    return result


def _soaked(peer: Peer, launch: Launch, side: Side, pid: int) -> list[dict[str, float]]:
    """Resident memory while requests go on, in steps of at least a tenth of all."""
    done, steps = 0.0, [{"requests": 0.0, "rss_mb": usage(pid).rss_mb}]
    while done < _SOAK_REQUESTS:
        seen = side.run(replace(WHOLE_64, seconds=1), launch.key, _GATEWAY, peer.path)
        if not seen["reqs"]:
            raise BenchmarkError("no request is answered any more")
        done += seen["reqs"]
        if done - steps[-1]["requests"] >= _SOAK_REQUESTS / 10 or done >= _SOAK_REQUESTS:
            steps.append({"requests": done, "rss_mb": usage(pid).rss_mb})
    return steps


def _installed(peer: Peer, work: Path, progress: Console) -> Path:
    """The bin folder of the peer's own environment; it is made if it is not there. Raises BenchmarkError."""
    if not peer.packages:
        return Path(sys.executable).parent
    environment = work / "environments" / "-".join(peer.packages).replace("/", "_")
    if not (environment / "installed").exists():
        progress.print(f"installing {' '.join(peer.packages)} ...", markup=False)
        shutil.rmtree(environment, ignore_errors=True)
        for command in (
            ["uv", "venv", "-q", str(environment)],
            ["uv", "pip", "install", "-q", "--python", str(environment / "bin" / "python"), *peer.packages],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise BenchmarkError(f"{peer.name} cannot be installed: {done.stderr[-800:]}")
        (environment / "installed").touch()
    return environment / "bin"


if __name__ == "__main__":
    main()
