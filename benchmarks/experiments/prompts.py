"""What the cells of a plan ask: never the same prompt twice as long as there are others.

A repeated prompt is answered from the engine's prefix cache and makes the engine look faster than it is.
"""

import random
import zlib
from collections.abc import Mapping
from pathlib import Path

from benchmarks.experiments.plan import Cell, ExperimentPlan, Load
from benchmarks.workload import Message, Workload, questions, synthetic


def workload(plan: ExperimentPlan, cell: Cell) -> Workload:
    """The prompts of a cell. PlanError when its file has none."""
    load = cell.load
    if load.prompts is not None:
        return _questions(plan.folder / load.prompts, _starts(plan)[cell.id])
    seed = zlib.crc32(f"{cell.id}:{load.seed}".encode())
    if load.shared_prefix_tokens:
        return _shared(load, seed)
    return synthetic(load.prompt_tokens, seed)


def _questions(path: Path, start: int) -> Workload:
    asked = questions(path)
    return Workload(asked.label, lambda index: asked.messages(start + index))


def _starts(plan: ExperimentPlan) -> Mapping[str, int]:
    """Where in its file each cell begins: after what the cells before it will about have asked.

    Variants of a comparison ask the same questions: served models differ in what they put around them.
    """
    starts: dict[str, int] = {}
    next_of: dict[str, int] = {}
    of_step: dict[tuple[str, int], int] = {}
    for cell in plan.cells:
        name = cell.load.prompts or ""
        start = next_of.get(name, 0)
        if cell.variant:
            start = of_step.setdefault((cell.step, cell.repeat), start)
        starts[cell.id] = start
        next_of[name] = max(next_of.get(name, 0), start + expected_requests(cell.load))
    return starts


def expected_requests(load: Load) -> int:
    """About how many requests a load sends; a closed loop of a given duration is not known before."""
    if load.requests is not None:
        return load.requests
    return round((load.rate or 1.0) * (load.duration_s or 0.0))


def _shared(load: Load, seed: int) -> Workload:
    """Prompts whose beginning is the same in all, as system prompts and popular passages are."""
    head = synthetic(load.shared_prefix_tokens, seed).messages(0)[0]["content"]
    rest = max(1, load.prompt_tokens - load.shared_prefix_tokens)
    fresh = synthetic(rest, random.Random(seed).randrange(2**31))  # noqa: S311  # repeatable is the point

    def messages(index: int) -> list[Message]:
        tail = fresh.messages(index)[0]["content"]
        return [{"role": "user", "content": f"{head} {tail}"}]

    label = f"synthetic ({load.prompt_tokens} tokens, the first {load.shared_prefix_tokens} shared, seed {seed})"
    return Workload(label, messages)
