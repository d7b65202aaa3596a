"""What the cells of a plan ask: never the same prompt twice as long as there are others.

A repeated prompt is answered from the engine's prefix cache and makes the engine look faster than it is.
"""

import random
import zlib
from collections.abc import Mapping
from pathlib import Path

import orjson

from benchmarks.errors import PlanError
from benchmarks.experiments.freshness import asked_codes
from benchmarks.experiments.plan import Cell, ExperimentPlan, Load
from benchmarks.load.workload import Prompt, Workload, questions, rag, shared_prefix, synthetic


def workload(plan: ExperimentPlan, cell: Cell) -> Workload:
    """The prompts of a cell. PlanError when its file has none, or they are too short for what is to be in them."""
    load = cell.load
    if cell.kind == "change":
        return asked_codes()
    if load.prompts is not None:
        return _shuffled(plan.folder / load.prompts, load.only, starts(plan)[cell.id])
    seed = zlib.crc32(f"{cell.id}:{load.seed}".encode())
    if load.topics:
        return rag(load.prompt_tokens, load.topics, seed)
    if load.shared_prefix_tokens:
        return shared_prefix(load.prompt_tokens, load.shared_prefix_tokens, seed=seed)
    return synthetic(load.prompt_tokens, seed)


def _shuffled(path: Path, only: str | None, start: int) -> Workload:
    """Lines of a file in an order that has nothing to do with what they are; `only` those of one `kind`.

    Files list one kind after another, and a cell that got nothing but questions to decline would measure nothing.
    """
    kinds = [_kind(line) for line in path.read_bytes().splitlines() if line.strip()] if path.is_file() else []
    asked = questions(path)
    chosen = [number for number, kind in enumerate(kinds) if only in (None, kind)]
    if not chosen:
        known = ", ".join(sorted({kind for kind in kinds if kind})) or "none"
        raise PlanError(f"{path.name} has no questions of the kind {only!r}; it has {known}")

    def prompt(index: int) -> Prompt:
        lap, place = divmod(start + index, len(chosen))
        return asked.prompt(random.Random(lap).sample(chosen, len(chosen))[place])  # noqa: S311  # to be repeated

    return Workload(f"{path.name} ({len(chosen)} questions{f', {only}' if only else ''}, shuffled)", prompt)


def _kind(line: bytes) -> str | None:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None  # `questions` says which line it is
    return str(entry["kind"]) if isinstance(entry, dict) and "kind" in entry else None


def starts(plan: ExperimentPlan) -> Mapping[str, int]:
    """Where in its file each cell begins: after what the cells before it will about have asked.

    Variants of a comparison ask the same questions: served models differ in what they put around them.
    """
    found: dict[str, int] = {}
    next_of: dict[str, int] = {}
    of_step: dict[tuple[str, int], int] = {}
    for cell in plan.cells:
        name = cell.load.prompts or ""
        start = next_of.get(name, 0)
        if cell.variant:
            start = of_step.setdefault((cell.step, cell.repeat), start)
        found[cell.id] = start
        next_of[name] = max(next_of.get(name, 0), start + expected_requests(cell.load))
    return found


def expected_requests(load: Load) -> int:
    """About how many requests a load sends, warm-up included; a closed loop of a given duration can only be guessed."""
    if load.requests is not None:
        return load.warmup + load.requests
    return load.warmup + round((load.rate or 1.0) * (load.duration_s or 0.0))
