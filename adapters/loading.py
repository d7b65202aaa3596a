"""The base model as it is trained on: on which device, in which precision, and what this machine cannot do."""

from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from adapters.errors import Unavailable
from adapters.plan import Plan
from adapters.recipe import Recipe


def load_base(plan: Plan) -> Any:
    """The base model's weights, as the recipe wants them."""
    extra: dict[str, Any] = {}
    if plan.recipe.quantization == "4bit":
        # As in QLoRA (Dettmers 2023).
        extra["quantization_config"] = BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # theirs is not typed
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    dtype = getattr(torch, plan.recipe.dtype)
    return AutoModelForCausalLM.from_pretrained(plan.base_dir, dtype=dtype, local_files_only=True, **extra)


def keep_within(share: float) -> None:
    """Let this process take no more than a share of the GPU's memory, if there is one; 0 is no limit."""
    if share and torch.cuda.is_available():
        torch.cuda.set_per_process_memory_fraction(share)


def device_id() -> str:
    """A name for the device that is the same in every process of this machine."""
    return f"cuda-{torch.cuda.get_device_properties(0).uuid}" if torch.cuda.is_available() else "cpu"


def refuse_unavailable(recipe: Recipe) -> None:
    """Raises Unavailable where the recipe asks for what is not here."""
    if recipe.quantization == "4bit" and not (torch.cuda.is_available() and find_spec("bitsandbytes")):
        raise Unavailable(
            'quantization = "4bit" (QLoRA) needs an NVIDIA GPU and bitsandbytes: install breakeven[cuda] on a machine '
            'with one, or remove the key and train with dtype = "bfloat16"'
        )
    if torch.cuda.is_available() and torch.cuda.device_count() > 1:
        raise Unavailable(
            "training uses one GPU: say which with CUDA_VISIBLE_DEVICES, for example CUDA_VISIBLE_DEVICES=0"
        )
