"""Which adapters an engine is to have: kept outside its process, so that a new one gets them all again.

`max_loras` bounds the adapters of one batch: as many slots there are, and vLLM swaps the rest in and out by last use.
Its own CPU operations, which run where our plugin does not (lora_plugin.py), read "no adapter" as the last slot, so
that one must stay empty, or a base request beside an adapter's gets that adapter's weights. vLLM fills a slot per
loaded adapter and starts to swap when none is left; so there each adapter kept in memory has a slot, there is one more,
and a load that would take the last one is refused.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import safe_open

from serving.engine.lora_plugin import OFF
from serving.engine.protocol import AdapterRefused, LoraModule
from serving.sections import Engine as EngineSettings

# What vLLM accepts for --max-lora-rank.
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Of Llama and its many relatives. Others vLLM might not be able to wrap, and would then not start.
_USUAL = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}


@dataclass(slots=True)
class Loras:
    """Outlives engine processes. `refused`: by all engines that answer. `room`: names one can take; None: any."""

    wanted: dict[str, LoraModule] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    room: int | None = None

    def check_room(self, name: str, resident: Collection[str]) -> None:
        """Raises AdapterRefused if one more than these would take the slot that must stay empty."""
        if self.room is not None and name not in resident and len(resident) >= self.room:
            raise AdapterRefused(
                f"this engine process has taken {self.room} adapters, as many as engine.max_cpu_loras lets it: "
                "raise that and restart"
            )

    def refusal(self, name: str) -> str | None:
        """See Engine.refusal."""
        if name in self.refused:
            return self.refused[name]
        return None if name in self.wanted else "it is not loaded"


def linear_modules(model: Path) -> list[str]:
    """The linear layers of a checkpoint's blocks, if they are all of the usual names; none otherwise, or without files.

    Named to vLLM, they are what adapters may change; without names that is the output layer too. On a CPU that layer
    is costly, and scoring a prompt's tokens there (`prompt_logprobs`) beside an adapter ends the engine: its operation
    takes one row per request and gets one per token (vLLM 0.32, punica_cpu.add_lora_logits).
    """
    found: set[str] = set()
    for path in model.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as weights:
            names = weights.keys()
            matrices = [name for name in names if len(weights.get_slice(name).get_shape()) > 1]
        found |= {name.split(".")[-2] for name in matrices if ".layers." in name}
    return sorted(found) if found <= _USUAL else []


def lora_arguments(
    settings: EngineSettings, loras: Iterable[LoraModule], *, spare: bool, modules: Sequence[str] = ()
) -> list[str]:
    """vLLM's arguments for serving adapters; their rank is at least that of every one known at start.

    `spare`: with a slot that stays empty, and with vLLM's own operations.
    """
    rank = max([settings.max_lora_rank, *(lora.rank for lora in loras)])
    slots = settings.max_cpu_loras + 1 if spare else settings.max_loras
    host = max(slots, settings.max_cpu_loras)
    sizes = ["--max-loras", str(slots), "--max-cpu-loras", str(host)]
    if modules:
        sizes += ["--lora-target-modules", *modules]
    if spare:
        sizes += ["--additional-config", OFF]
    return ["--enable-lora", "--max-lora-rank", str(next((each for each in _RANKS if each >= rank), rank)), *sizes]
