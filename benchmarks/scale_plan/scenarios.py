"""What the simulation is asked, and what it answers as plain data. The same inputs give the same numbers each time."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from decimal import Decimal
from typing import Any

import numpy as np

from benchmarks.economics.defaults import DEMAND_UTILISATION
from benchmarks.economics.fleet import ALWAYS_ON, queries_per_s, replicas
from benchmarks.scale_plan.autoscaling import Rules
from benchmarks.scale_plan.cluster import Cluster, Plan, Played
from benchmarks.scale_plan.measured import Engine
from benchmarks.scale_plan.replica import PrefixCache
from benchmarks.scale_plan.routing import ROUTERS
from benchmarks.scale_plan.sizes import HOURLY, PEAK_TO_MEAN, SPARES, VOLUMES
from benchmarks.scale_plan.traffic import Shape, requests

Row = Mapping[str, Any]
Say = Callable[[str], None]

# The gateway's default admission.objective_s.
DOOR_S = 30.0
# Seconds over which a percentile is taken that changes with time.
WINDOW_S = 300.0
_CHECKS = 40
# Assumed: half of a prompt is shared with others of its topic, of which a replica remembers so many.
SHARED, TOPICS, REMEMBERED = 0.5, 5000, 100
_COLD_STARTS_S = (60.0, 300.0, 900.0)
BURST = 5.0
_ROUTERS_S, _WARM_S = 120.0, 45.0
_ENVOY = "least of two (Envoy)"


def fingerprint(engine: Engine, ready_s: float, scaling: Rules) -> str:
    """Of everything that the numbers follow from, but the code."""
    held = [asdict(engine.demand), engine.prompt_tokens, engine.output_tokens, engine.rate.queries_per_s]
    held += [[level.rate for level in engine.levels], engine.run_s, ready_s, asdict(scaling), HOURLY, VOLUMES]
    held += [_CHECKS, SHARED, TOPICS, REMEMBERED, _COLD_STARTS_S, BURST, _ROUTERS_S]
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()[:16]


def simulate(engine: Engine, ready_s: float, scaling: Rules, say: Say) -> dict[str, list[Row]]:
    """All of it, by group; `say` is told what is under way."""
    return {
        "check": check(engine, say),
        "day": day(engine, ready_s, scaling, say),
        "burst": burst(engine, ready_s, scaling, say),
        "loss": loss(engine, ready_s, say),
        "routers": routers(engine, say),
    }


def check(engine: Engine, say: Say) -> list[Row]:
    """One replica under the measured rates, for as long as they were measured, many times over."""
    shape = Shape(engine.prompt_tokens, engine.output_tokens, spread=False)
    plan = replace(_plan(engine, 1, 0.0, 1e9), objective_s=1e9)
    rows: list[Row] = []
    for level in engine.levels:
        say(f"one replica, {level.rate:g}/s")
        played = [
            Cluster(plan, ROUTERS["random"](0)).play(requests(shape, [level.rate], engine.run_s, seed))
            for seed in range(_CHECKS)
        ]
        answers = [answer for each in played for answer in each.answers]
        rows.append({"rate": level.rate, **_latency(answers)})
    return rows


def day(engine: Engine, ready_s: float, scaling: Rules, say: Say) -> list[Row]:
    """A whole day at the smaller volume: sized for the peak, or by KEDA."""
    mean = _mean(VOLUMES[0])
    rates = [mean * load * len(HOURLY) / sum(HOURLY) for load in HOURLY]
    peak = fleet_of(engine, VOLUMES[0])
    plan = _plan(engine, peak + SPARES, ready_s, 24 * 3600.0)
    return [
        _run("sized for the peak, and one", plan, rates, 3600.0, engine, say),
        _run("sized for the peak", replace(plan, replicas=peak), rates, 3600.0, engine, say),
        _run("KEDA", replace(plan, replicas=scaling.least, scaling=scaling), rates, 3600.0, engine, say),
    ]


def burst(engine: Engine, ready_s: float, scaling: Rules, say: Say) -> list[Row]:
    """Half an hour of the mean, an hour of five times as much, an hour and a half of the mean again."""
    mean = _mean(VOLUMES[0])
    rates = [mean, *[BURST * mean] * 2, *[mean] * 3]
    plan = replace(_plan(engine, scaling.least, ready_s, 3 * 3600.0), scaling=scaling)
    names = {f"KEDA, cold start {cold:g} s": cold for cold in (ready_s, *_COLD_STARTS_S)}
    by_running = also_running(engine, scaling)
    name = f"KEDA, cold start {ready_s:g} s, and {by_running.running:g} running"
    known = _run(name, replace(plan, scaling=by_running), rates, 1800.0, engine, say)
    enough = int(np.ceil(BURST * mean / engine.rate.queries_per_s)) + SPARES
    rows = [_run(name, replace(plan, cold_start_s=cold), rates, 1800.0, engine, say) for name, cold in names.items()]
    fixed = replace(plan, replicas=enough, scaling=None)
    return [*rows, known, _run("sized for the burst, and one", fixed, rates, 1800.0, engine, say)]


def also_running(engine: Engine, scaling: Rules) -> Rules:
    """A target for requests that run: by Little's law what is in a replica at its rate within the objectives, less the
    reserve."""
    rate = engine.rate.queries_per_s
    shape = Shape(engine.prompt_tokens, engine.output_tokens)
    plan = replace(_plan(engine, 1, 0.0, 1e9), objective_s=1e9)
    answers = Cluster(plan, ROUTERS["random"](0)).play(requests(shape, [rate], WINDOW_S, 0)).answers
    inside = rate * sum(whole for _, _, whole in answers) / len(answers)
    return replace(scaling, running=max(1.0, round(inside * float(DEMAND_UTILISATION.value))))


def loss(engine: Engine, ready_s: float, say: Say) -> list[Row]:
    """A node lost after half an hour at the peak of the smaller volume, with and without a spare."""
    peak, fleet = _mean(VOLUMES[0]) * PEAK_TO_MEAN, fleet_of(engine, VOLUMES[0])
    rows = []
    for spares in (0, 1):
        for cold in (ready_s, max(_COLD_STARTS_S)):
            plan = replace(_plan(engine, fleet + spares, cold, 5400.0), lost_s=1800.0)
            name = f"{fleet + spares} replicas, cold start {cold:g} s"
            rows.append(_run(name, plan, [peak] * 3, 1800.0, engine, say))
    return rows


def routers(engine: Engine, say: Say) -> list[Row]:
    """Minutes at the peak of the larger volume, through each router, with what prompts share in the caches or not."""
    peak, fleet = _mean(VOLUMES[1]) * PEAK_TO_MEAN, fleet_of(engine, VOLUMES[1])
    plan = _plan(engine, fleet, 0.0, _ROUTERS_S)
    cached = replace(plan, cache=PrefixCache(round(SHARED * engine.prompt_tokens), REMEMBERED))
    rows: list[Row] = []
    for router in ROUTERS:
        for what, each in (("nothing shared", plan), ("half of the prompt shared", cached)):
            shape = Shape(engine.prompt_tokens, engine.output_tokens, topics=TOPICS)
            say(f"{fleet} replicas, {router}, {what}")
            played = Cluster(each, ROUTERS[router](0)).play(requests(shape, [peak], _ROUTERS_S, 0))
            answers = [answer for answer in played.answers if answer[0] >= _WARM_S]
            shares = {"hits": _rounded(played.hits / played.asked) if played.asked else None}
            rows.append({"router": router, "prompts": what, **_latency(answers), **_shares(played), **shares})
    return rows


def fleet_of(engine: Engine, volume: int) -> int:
    """Replicas that carry the peak of a volume, without spares."""
    return replicas(Decimal(repr(_mean(volume) * PEAK_TO_MEAN)), Decimal(repr(engine.rate.queries_per_s)))


def _mean(volume: int) -> float:
    return float(queries_per_s(Decimal(volume), ALWAYS_ON))


def _plan(engine: Engine, count: int, cold_start_s: float, ends_s: float) -> Plan:
    return Plan(engine.demand, count, cold_start_s, ends_s, engine.full_queries_per_s, DOOR_S)


def _run(name: str, plan: Plan, rates: Sequence[float], each_s: float, engine: Engine, say: Say) -> Row:
    say(name)
    shape = Shape(engine.prompt_tokens, engine.output_tokens)
    played = Cluster(plan, ROUTERS[_ENVOY](0)).play(requests(shape, rates, each_s, 0))
    windows = _windows(played, plan.ends_s)
    return {
        "name": name,
        **_latency(played.answers),
        **_shares(played),
        "worst_ttft_p95_s": max(p95 for _, p95 in windows),
        "billed_hours": _rounded(played.billed_s / 3600),
        "cold_start_s": plan.cold_start_s if plan.scaling or plan.lost_s else None,
        "ends_s": plan.ends_s,
        "started": played.started,
        "stopped": played.stopped,
        "fleet": [[_rounded(at), count] for at, count in played.fleet],
        "windows": windows,
    }


def _latency(answers: Sequence[tuple[float, float, float]]) -> dict[str, float]:
    table = np.array(answers)
    first, whole = table[:, 1], table[:, 2]
    return {
        "ttft_p50_s": _rounded(np.percentile(first, 50)),
        "ttft_p95_s": _rounded(np.percentile(first, 95)),
        "e2e_p95_s": _rounded(np.percentile(whole, 95)),
    }


def _shares(played: Played) -> dict[str, float]:
    sent = max(1, played.sent)
    return {
        "sent": played.sent,
        "refused": _rounded(len(played.refused) / sent),
        "broken": len(played.broken),
    }


def _windows(played: Played, ends_s: float) -> list[list[float]]:
    """(Begin, p95 to the first token) of each window with answers."""
    table = np.array(played.answers)
    number = (table[:, 0] // WINDOW_S).astype(int)
    return [
        [_rounded(window * WINDOW_S), _rounded(np.percentile(table[number == window, 1], 95))]
        for window in range(int(ends_s // WINDOW_S))
        if bool((number == window).any())
    ]


def _rounded(value: float) -> float:
    return float(f"{value:.5g}")
