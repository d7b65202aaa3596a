"""What LoRA costs on the CPU engine: `python -m benchmarks.engine.lora MODEL --out FILE`.

Two engines are up: one without adapters (which vLLM compiles), one with four adapters of rank 8 made up here. Base
requests on each of them, requests for one adapter and for four mixed take turns. With `--stock` the second engine runs
vLLM's own operations, which take minutes: give it `--requests 32 --rounds 1`.
"""

import argparse
import json
import statistics
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from safetensors import safe_open
from safetensors.numpy import save_file

from benchmarks.engine.lab import Asked, Server, Timing, asked_of, drive, options, origin_of, ready, vllm
from benchmarks.load.workload import synthetic
from benchmarks.origin import Origin
from benchmarks.result_file import show

_RANK, _ADAPTERS = 8, 4
_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# As the gateway starts its engine, with adapters.
FLAGS = ("--enable-lora", "--max-lora-rank", "16", "--max-cpu-loras", "16", "--lora-target-modules", *_MODULES)


@dataclass(frozen=True, slots=True)
class Condition:
    """One way to ask. `against`: median over rounds of tokens per second as a share of that condition's."""

    name: str
    rounds: tuple[Timing, ...]
    tokens_per_s: float
    against: dict[str, float]


@dataclass(frozen=True, slots=True)
class Result(Asked):
    """All conditions, in the order in which they took turns."""

    operations: str
    rank: int
    conditions: tuple[Condition, ...]
    origin: Origin


def make_adapter(folder: Path, model: Path, seed: int, rank: int = _RANK) -> Path:
    """An adapter with random weights for every linear layer of `model`, small enough to leave its answers sane."""
    folder.mkdir(parents=True)
    random, tensors = np.random.default_rng(seed), {}
    with safe_open(model / "model.safetensors", framework="numpy") as weights:
        for name in weights.keys():  # noqa: SIM118  # it is no mapping
            if name.split(".")[-2] in _MODULES:
                outputs, inputs = weights.get_slice(name).get_shape()
                stem = f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{stem}.lora_A.weight"] = random.normal(0, inputs**-0.5, (rank, inputs)).astype(np.float32)
                tensors[f"{stem}.lora_B.weight"] = random.normal(0, 0.05, (outputs, rank)).astype(np.float32)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": list(_MODULES), "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def measure(given: argparse.Namespace, origin: Origin) -> Result:
    """Starts both engines and lets the conditions take turns, after a first round that is not counted."""
    console = Console(stderr=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        loras = [make_adapter(folder / f"adapter-{number}", given.model, number) for number in range(_ADAPTERS)]
        # Stock operations need one slot that stays empty.
        slots = _ADAPTERS + given.stock
        flags = (
            *FLAGS,
            "--max-loras",
            str(slots),
            "--additional-config",
            json.dumps({"grouped_cpu_lora": not given.stock}),
        )
        plain = stack.enter_context(vllm(given.model, given.logs / "plain.log"))
        adapted = stack.enter_context(vllm(given.model, given.logs / "adapted.log", *flags, loras=loras))
        ready(plain.url, adapted.url)
        names = adapted.models[1:]
        asked: dict[str, tuple[Server, tuple[str, ...]]] = {
            "base": (plain, ("base",)),
            "base beside adapters": (adapted, ("base",)),
            "one adapter": (adapted, names[:1]),
            "four adapters": (adapted, names),
        }
        for server, models in asked.values():
            drive(server.url, models, synthetic(given.prompt, 99), concurrency=4, requests=4, max_tokens=4)
        rounds: dict[str, list[Timing]] = {name: [] for name in asked}
        for number in range(given.rounds):
            for name, (server, models) in asked.items():
                # Prompts that no engine has seen: none of them is in a prefix cache.
                workload = synthetic(given.prompt, number * len(asked) + len(rounds[name]))
                done = drive(server.url, models, workload, concurrency=given.concurrency, requests=given.requests)
                rounds[name].append(done)
                console.print(f"round {number + 1}, {name}: {done.tokens_per_s} tokens/s")
    operations = "stock" if given.stock else "grouped"
    return Result(*asked_of(given), operations, _RANK, _conditions(rounds), origin)


def _conditions(rounds: dict[str, list[Timing]]) -> tuple[Condition, ...]:
    def share(name: str, other: str) -> float:
        pairs = zip(rounds[name], rounds[other], strict=True)
        return round(statistics.median(one.tokens_per_s / two.tokens_per_s for one, two in pairs), 3)

    return tuple(
        Condition(
            name,
            tuple(done),
            round(statistics.median(each.tokens_per_s for each in done), 1),
            {other: share(name, other) for other in ("base", "base beside adapters")},
        )
        for name, done in rounds.items()
    )


def main() -> None:
    """Prints the result and writes it as JSON."""
    parser = options(str(__doc__), requests=64, rounds=2)
    parser.add_argument("--stock", action="store_true", help="vLLM's own operations")
    given = parser.parse_args()
    stock = ("--stock",) if given.stock else ()
    show(measure(given, origin_of("benchmarks.engine.lora", given, *stock)), given.out)


if __name__ == "__main__":
    main()
