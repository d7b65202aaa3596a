"""Whether two gateways answer twice as much as one: `python -m benchmarks.gateway.scaling --work FOLDER`.

Gateways without documents share nothing, and those whose documents are on servers share only these; so each has a core
of its own here, and what must hold is that its CPU time per request does not grow when there is another. The load side
has to live on the same cores: it is named beside the result, since it takes what the gateways cannot have.
"""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.errors import BenchmarkError
from benchmarks.gateway.load import WHOLE_64, Side, built
from benchmarks.gateway.peers import CHAT, Place, peers
from benchmarks.gateway.processes import started, until_answered, usage
from benchmarks.gateway.table import cpu_us
from benchmarks.origin import Origin
from benchmarks.result_file import keep

_UPSTREAM, _GATEWAY = 19280, 19281


def main() -> None:
    """Writes one JSON file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for configurations and logs")
    parser.add_argument("--native", type=Path, help="folder with upstream.c and client.c to use for the load side")
    parser.add_argument("--cores", type=int, nargs=2, default=(0, 1), help="of the first and the second gateway")
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement")
    parser.add_argument("--out", type=Path, help="the JSON file")
    given = parser.parse_args()
    try:
        side = built(given.native, given.work.resolve() / "load", given.cores[1])
        origin = Origin.here("python -m benchmarks.gateway.scaling --work FOLDER")
        found = [_measured(given.work.resolve(), side, given.cores[:count], given.seconds) for count in (1, 2)]
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    Console().print(_table(found))
    keep({"origin": origin, "load_side": "C" if side.native else "Python", "runs": found}, given.out)


def _measured(work: Path, side: Side, cores: Sequence[int], seconds: float) -> dict[str, Any]:
    ours = peers(None)[0]
    # As many connections in all, so that more gateways do not mean more load; the upstream is on the second core.
    load = replace(WHOLE_64, connections=WHOLE_64.connections // len(cores), seconds=seconds)
    with ExitStack() as stack:
        log = work / "scaling-upstream.log"
        upstream = stack.enter_context(started(side.upstream(_UPSTREAM), side.core, log))
        until_answered(f"http://127.0.0.1:{_UPSTREAM}/v1/models", "", upstream, log)
        running: list[tuple[int, int, str]] = []
        for number, core in enumerate(cores):
            folder = work / "scaling" / f"{len(cores)}-{number}-{time.time_ns()}"
            folder.mkdir(parents=True)
            port = _GATEWAY + number
            launch = ours.launch(Path(sys.executable).parent, Place(folder, port, f"http://127.0.0.1:{_UPSTREAM}"))
            pid = stack.enter_context(started(launch.command, core, folder / "log"))
            until_answered(f"http://127.0.0.1:{port}{launch.ready}", launch.key, pid, folder / "log")
            running.append((pid, port, launch.key))
        for _, port_, key in running:
            side.run(replace(load, seconds=1), key, port_, CHAT)
        before = [usage(pid).cpu_s for pid, _, _ in running]
        with ThreadPoolExecutor(len(running)) as threads:
            seen = list(threads.map(lambda each: side.run(load, each[2], each[1], CHAT), running))
        after = [usage(pid).cpu_s for pid, _, _ in running]
    loads = [{**one, "cpu_s": end - start} for one, start, end in zip(seen, before, after, strict=True)]
    if failed := sum(_failures(load) for load in loads):
        raise BenchmarkError(f"{failed} requests failed; look into the logs below {work / 'scaling'}")
    return {"gateways": len(cores), "loads": loads}


def _failures(load: Mapping[str, Any]) -> int:
    return int(load["non200"] + load["err"] + load["bad"])


def _table(runs: Sequence[Mapping[str, Any]]) -> Table:
    """Derived from the raw results, and from nothing else."""
    shown = Table("gateways", "requests/s", "CPU us/request", title="As many connections in all")
    for run in runs:
        rate = sum(load["reqs"] / load["secs"] for load in run["loads"])
        each = ", ".join(f"{cpu_us(load):.1f}" for load in run["loads"])
        shown.add_row(str(run["gateways"]), f"{rate:,.0f}", each)
    return shown


if __name__ == "__main__":
    main()
