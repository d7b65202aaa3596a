"""`python -m benchmarks.gpu STAGE...`: runs stages of the GPU experiment, those with a result left out.

    python -m benchmarks.gpu all --out DIR                              # on a GPU
    python -m benchmarks.gpu all --out DIR --scale tiny --device cpu    # to try it anywhere

A stage that fails costs its own result only; the exit status is then 1. Consecutive stages share an engine.
"""

import argparse
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from adapters.errors import AdapterError
from benchmarks.errors import BenchmarkError, PlanError
from benchmarks.gpu.correctness import correctness, references
from benchmarks.gpu.fingerprint import fingerprint
from benchmarks.gpu.scale import SCALES
from benchmarks.gpu.servers import Machine
from benchmarks.gpu.setup import Setup
from benchmarks.gpu.stages import adapters, base, gateway, grid, prefix_off, prefix_on, sweep_plain, sweep_rag
from benchmarks.gpu.training import training
from benchmarks.origin import cpu_model, gpus

# In this order: those that use the same engine one after another.
STAGES: dict[str, Callable[[Setup], None]] = {
    "fingerprint": fingerprint,
    "correctness": correctness,
    "base": base,
    "grid": grid,
    "sweep-rag": sweep_rag,
    "sweep-plain": sweep_plain,
    "prefix-on": prefix_on,
    "gateway": gateway,
    "prefix-off": prefix_off,
    "adapters": adapters,
    "training": training,
}


def run_stages(setup: Setup, names: Sequence[str], minutes: float = math.inf) -> list[str]:
    """Runs those that have no result yet; returns the names of those that failed, or were not begun in the time."""
    deadline = time.monotonic() + 60 * minutes
    try:
        return [name for name in names if not _made(setup, name, deadline)]
    finally:
        setup.close()


def _made(setup: Setup, name: str, deadline: float) -> bool:
    if done := setup.result(name):
        setup.console.print(f"{name}: {done.name} is there, skipped", highlight=False)
        return True
    began = time.monotonic()
    if began > deadline:
        setup.console.print(f"{name}: not begun, the time is over", highlight=False)
        return False
    if name in ("training", "references"):
        setup.close()  # it needs the memory
    try:
        (STAGES | {"references": references})[name](setup)
    except (BenchmarkError, AdapterError, OSError) as error:
        setup.console.print(f"{name}: failed: {error}", style="red", markup=False, highlight=False)
        return False
    setup.console.print(f"{name}: done in {time.monotonic() - began:.0f} s", highlight=False)
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="+", choices=[*STAGES, "references", "all"])
    parser.add_argument("--out", type=Path, required=True, help="folder for the results; those in it are kept")
    parser.add_argument("--work", type=Path, help="folder for models and logs; default: OUT/work")
    parser.add_argument("--base", type=Path, default=Path(".breakeven/models/smollm2-135m-instruct"))
    parser.add_argument("--scale", choices=list(SCALES), default="full")
    parser.add_argument("--minutes", type=float, default=25, help="begin no stage after so long")
    parser.add_argument("--device", choices=["gpu", "cpu"], default="gpu")
    given = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        setup = make_setup(given.out, given.work or given.out / "work", given.base, given.scale, given.device, console)
        names = [name for asked in given.stages for name in (STAGES if asked == "all" else [asked])]
        failed = run_stages(setup, names, given.minutes)
    except BenchmarkError as error:
        console.print(f"error: {error}", style="red", markup=False, highlight=False)
        return 1
    if failed:
        console.print(f"without a result: {', '.join(failed)}; run again, and only these are made", highlight=False)
    return 1 if failed else 0


def make_setup(out: Path, work: Path, base: Path, scale: str, device: str, console: Console) -> Setup:
    """Checked before anything is started. PlanError says what is missing."""
    found = gpus()
    if device == "gpu" and len(found) != 1:
        raise PlanError(
            f"this experiment is for one NVIDIA GPU, and nvidia-smi shows {len(found)}; name one in "
            "CUDA_VISIBLE_DEVICES, or try the script with --scale tiny --device cpu"
        )
    if not (base / "model.safetensors").is_file():
        raise PlanError(f"there is no base model in {base}; make it with `python -m serving.engine.weights {base}`")
    name = found[0].name if device == "gpu" else cpu_model()
    return Setup(SCALES[scale], Machine(device == "gpu", name, work / "logs"), out, work, base, console)


if __name__ == "__main__":
    sys.exit(main())
