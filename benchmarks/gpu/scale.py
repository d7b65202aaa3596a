"""How large the experiment is: `full` is what a GPU is measured with, `tiny` the same stages on a CPU in minutes.

What `tiny` measures says nothing about a GPU; it is there so that every line of the script runs before a GPU is rented.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from benchmarks.load.plan import Slo

Shape = tuple[int, int]  # prompt tokens with the chat template, output tokens


@dataclass(frozen=True)
class Scale:
    """`model` is a Llama configuration; lists are what the stages vary. `run_s` is the length of one run, `first_rate`
    where the sweeps begin (requests per second), by workload."""

    name: str
    model: Mapping[str, Any]
    max_model_len: int
    rank: int
    adapters: tuple[int, ...]
    shapes: Mapping[str, Shape]
    first_rate: Mapping[str, float]
    slo: Slo
    grid: tuple[Shape, ...]
    grid_concurrency: tuple[int, ...]
    concurrency: int
    topics: int
    run_s: float
    halvings: int
    questions: int
    examples: int
    example_tokens: int
    engine: tuple[str, ...]


_LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "bfloat16",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rms_norm_eps": 1e-05,
    "initializer_range": 0.02,
    "tie_word_embeddings": False,
    "use_cache": True,
}
# Published: Llama-3.1-8B's config.json.
_LLAMA_8B = {
    **_LLAMA,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "rope_parameters": {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}
_LLAMA_TINY = {
    **_LLAMA,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 49152,
    "max_position_embeddings": 2048,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
}

FULL = Scale(
    name="full",
    model=MappingProxyType(_LLAMA_8B),
    max_model_len=4096,
    rank=16,
    adapters=(1, 4, 16),
    shapes=MappingProxyType({"rag": (1400, 250), "plain": (200, 250)}),
    first_rate=MappingProxyType({"rag": 4.0, "plain": 8.0}),
    slo=Slo(ttft_s=0.5, e2e_s=10.0),
    grid=((128, 16), (128, 250), (1400, 16), (1400, 250), (2800, 64)),
    grid_concurrency=(1, 8, 32),
    concurrency=64,
    topics=50,
    run_s=20.0,
    halvings=2,
    questions=50,
    examples=256,
    example_tokens=512,
    engine=(),
)
TINY = replace(
    FULL,
    name="tiny",
    model=MappingProxyType(_LLAMA_TINY),
    max_model_len=1024,
    adapters=(1, 2),
    shapes=MappingProxyType({"rag": (300, 8), "plain": (60, 8)}),
    grid=((60, 4), (60, 16), (300, 4), (300, 16), (200, 8)),
    grid_concurrency=(1, 4),
    concurrency=4,
    topics=5,
    run_s=2.0,
    halvings=0,
    questions=4,
    examples=8,
    example_tokens=64,
    # Compiling would take longer than all of it.
    engine=("--enforce-eager",),
)
SCALES: Mapping[str, Scale] = MappingProxyType({scale.name: scale for scale in (FULL, TINY)})
