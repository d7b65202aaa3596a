"""The stages that put load on the shape under test. Each writes one results file, of runs told apart by their labels.

Prompts are random, so that nothing is found in the prefix cache unless a stage is about that cache.
"""

import dataclasses
from itertools import product

from benchmarks.gpu.scale import Shape
from benchmarks.gpu.setup import MODEL, Setup, fitted
from benchmarks.load.arrivals import Closed, Open
from benchmarks.load.plan import Target
from benchmarks.load.sweep import Search
from benchmarks.load.workload import Workload, rag, synthetic

_REPEATS = 3


def base(setup: Setup) -> None:
    """Throughput without adapters, on an engine that serves none."""
    engine = setup.shape_engine()
    url = setup.serving(engine)
    with setup.recording("base") as runs:
        for name, shape in setup.scale.shapes.items():
            plan = setup.plan(url, _random(setup, url, shape, 1), Closed(setup.scale.concurrency), shape[1])
            runs.run(plan, setup.labels("base", engine, workload=name, adapters=0))


def adapters(setup: Setup) -> None:
    """Throughput of one engine with all adapters loaded: asked for none of them, for one, for several at once."""
    engine = setup.shape_engine(max(setup.scale.adapters))
    url = setup.serving(engine)
    shape = setup.scale.shapes["rag"]
    with setup.recording("adapters") as runs:
        for number, asked in enumerate((0, *setup.scale.adapters)):
            targets = tuple(Target(f"adapter-{each}") for each in range(asked)) or (Target(MODEL),)
            workload = _random(setup, url, shape, 10 + number)
            plan = setup.plan(url, workload, Closed(setup.scale.concurrency), shape[1], targets=targets)
            runs.run(plan, setup.labels("adapters", engine, workload="rag", adapters=asked))


def grid(setup: Setup) -> None:
    """Shapes by concurrency, from which service demand is fitted."""
    engine = setup.shape_engine()
    url = setup.serving(engine)
    with setup.recording("grid") as runs:
        for number, (shape, concurrency) in enumerate(product(setup.scale.grid, setup.scale.grid_concurrency)):
            workload = _random(setup, url, shape, 100 + number)
            plan = setup.plan(url, workload, Closed(concurrency), shape[1], duration_s=setup.scale.run_s / 2)
            runs.run(plan, setup.labels("grid", engine))


def sweep_rag(setup: Setup) -> None:
    """Open loop at the RAG shape, up to the knee."""
    _sweep(setup, "rag")


def sweep_plain(setup: Setup) -> None:
    """The same without context."""
    _sweep(setup, "plain")


def _sweep(setup: Setup, name: str) -> None:
    engine, stage = setup.shape_engine(), f"sweep-{name}"
    url = setup.serving(engine)
    shape, first = setup.scale.shapes[name], setup.scale.first_rate[name]
    with setup.recording(stage) as runs:
        plan = setup.plan(url, _random(setup, url, shape, 200), Open(first), shape[1], slo=setup.scale.slo)
        search = Search(first, halvings=setup.scale.halvings, most_runs=8 if setup.machine.gpu else 2)
        runs.sweep(plan, search, setup.labels(stage, engine, workload=name))


def prefix_on(setup: Setup) -> None:
    """RAG prompts on repeated topics, with the prefix cache."""
    _prefix(setup, "on")


def prefix_off(setup: Setup) -> None:
    """The same prompts without it."""
    _prefix(setup, "off")


def _prefix(setup: Setup, state: str) -> None:
    engine = setup.shape_engine(0, *(["--no-enable-prefix-caching"] if state == "off" else []))
    url, shape, stage = setup.serving(engine), setup.scale.shapes["rag"], f"prefix-{state}"
    workload = fitted(setup, url, shape[0], lambda tokens: rag(tokens, setup.scale.topics, 300, setup.text))
    with setup.recording(stage) as runs:
        plan = setup.plan(url, workload, Closed(setup.scale.concurrency), shape[1])
        runs.run(plan, setup.labels(stage, engine, workload="rag", prefix_cache=state))


def gateway(setup: Setup) -> None:
    """The same load through the gateway and past it, in turns, on one engine."""
    engine = setup.shape_engine()
    direct, shape = setup.serving(engine), setup.scale.shapes["rag"]
    through = setup.machine.gateway(direct, MODEL, setup.work / "home")
    with through as gateway_url, setup.recording("gateway") as runs:
        for repeat in range(_REPEATS):
            for via, url in (("direct", direct), ("gateway", gateway_url)):
                workload = _random(setup, direct, shape, 400 + repeat + 50 * (via == "gateway"))
                plan = setup.plan(url, workload, Closed(setup.scale.concurrency), shape[1])
                plan = dataclasses.replace(plan, duration_s=setup.scale.run_s / 2)
                runs.run(plan, setup.labels("gateway", engine, workload="rag", via=via, repeat=repeat))


def _random(setup: Setup, url: str, shape: Shape, seed: int) -> Workload:
    return fitted(setup, url, shape[0], lambda tokens: synthetic(tokens, seed, setup.text))
