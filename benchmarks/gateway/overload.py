"""Ten times what the engine can do, on the gateway as a process: `python -m benchmarks.gateway.overload --work FOLDER`.

The engine is simulated, so that what it can do is known: so many places, each answer as long as the other. What must
hold: an accepted request keeps the objective, a refused one is told at once, and the engine is never idle meanwhile.
"""

import argparse
import asyncio
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.gateway.processes import started, until_answered
from benchmarks.load.arrivals import Closed, Load, Open
from benchmarks.load.plan import LoadPlan, Target
from benchmarks.load.record import RequestRow
from benchmarks.load.run import run_load
from benchmarks.load.summary import Percentiles
from benchmarks.load.workload import synthetic
from benchmarks.origin import Origin
from benchmarks.result_file import show

_PORT = 19381
_TOKENS, _TTFT_S, _ITL_S = 50, 0.1, 0.018  # a second an answer
_LATE_S = 1.0


@dataclass(frozen=True, slots=True)
class Result:
    """`capacity_per_s` is what the engine completed while it was just full; `refused_late`: refused after more than a
    second, because others came meanwhile."""

    places: int
    objective_s: float
    times: float
    capacity_per_s: float
    asked: int
    accepted: int
    accepted_per_s: float
    accepted_e2e: Percentiles | None
    accepted_over_objective: int
    refused: int
    refused_after: Percentiles | None
    refused_late: int
    other: int
    origin: Origin


def measure(given: argparse.Namespace, origin: Origin) -> Result:
    """First the engine just full, then so many times as much."""
    folder = (given.work / "overload").resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = folder / "breakeven.json"
    settings = {
        "home": str(folder / "home"),
        "server": {"port": _PORT},
        "engine": {
            "kind": "simulated",
            "simulated_ttft_s": _TTFT_S,
            "simulated_itl_s": _ITL_S,
            "simulated_tokens": _TOKENS,
        },
        "admission": {"max_running": given.places, "objective_s": given.objective},
        "models": {"mock": {}},
    }
    config.write_text(json.dumps(settings), encoding="utf-8")
    command = [sys.executable, "-m", "breakeven", "serve", "--config", str(config)]
    with started(command, given.core, folder / "log") as pid:
        until_answered(f"http://127.0.0.1:{_PORT}/readyz", "", pid, folder / "log")
        full = _sent(Closed(given.places), given.seconds / 2)
        capacity = _per_s([row for row in full if row.succeeded])
        rows = _sent(Open(given.times * capacity), given.seconds)
    accepted = [row for row in rows if row.succeeded]
    refused = [row for row in rows if row.status == 429]
    return Result(
        given.places,
        given.objective,
        given.times,
        round(capacity, 2),
        len(rows),
        len(accepted),
        round(_per_s(accepted), 2),
        Percentiles.of(row.e2e_s for row in accepted),
        sum(row.e2e_s > given.objective for row in accepted),
        len(refused),
        Percentiles.of(row.last_s - row.sent_s for row in refused),
        sum(row.last_s - row.sent_s > _LATE_S for row in refused),
        len(rows) - len(accepted) - len(refused),
        origin,
    )


def _sent(load: Load, seconds: float) -> list[RequestRow]:
    plan = LoadPlan(
        url=f"http://127.0.0.1:{_PORT}/v1",
        targets=(Target("mock"),),
        workload=synthetic(30, 0),
        load=load,
        duration_s=seconds,
        max_tokens=_TOKENS,
        metrics=(),
    )
    return list(asyncio.run(run_load(plan)).rows)


def _per_s(rows: Sequence[RequestRow]) -> float:
    if not rows:
        raise BenchmarkError("nothing was answered; see the gateway's log")
    return len(rows) / (max(row.last_s for row in rows) - min(row.sent_s for row in rows))


def main() -> None:
    """Prints the result and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the configuration and the log")
    parser.add_argument("--times", type=float, default=10, help="what comes, as a multiple of what the engine can do")
    parser.add_argument("--places", type=int, default=16, help="of the engine; an answer takes a second")
    parser.add_argument("--objective", type=float, default=5, help="seconds to the end of an answer")
    parser.add_argument("--seconds", type=float, default=60, help="of the overload")
    parser.add_argument("--core", type=int, default=0, help="of the gateway")
    parser.add_argument("--out", type=Path, help="the JSON file")
    given = parser.parse_args()
    words = f"--times {given.times:g} --places {given.places} --objective {given.objective:g}"
    origin = Origin.here(f"python -m benchmarks.gateway.overload --work FOLDER {words} --seconds {given.seconds:g}")
    try:
        show(measure(given, origin), given.out)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
