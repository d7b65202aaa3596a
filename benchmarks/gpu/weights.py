"""Models and adapters of the right shape with no meaning: for speed, only sizes matter.

Weights are one block of small random numbers, repeated: to draw billions would take minutes and change nothing. Written
as bfloat16 without torch, which the benchmarks do not import.
"""

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.errors import PlanError

_BLOCK = 4_000_000
_TOKENIZER = ("tokenizer_config.json", "chat_template.jinja", "generation_config.json")
Shape = tuple[int, ...]


def write_model(folder: Path, config: Mapping[str, Any], tokenizer_from: Path, *, weights: bool = False) -> Path:
    """A Llama checkpoint of this configuration: config and tokenizer, enough for `--load-format dummy`, and with
    `weights` random ones too, for training. The tokenizer is that of another model, filled up with words nobody writes
    until each of this model's token ids is one. A folder that is there is left as it is.
    """
    marker = folder / ("model.safetensors.index.json" if weights else "config.json")
    if marker.is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = _read(tokenizer_from / "tokenizer.json")
    vocabulary = tokenizer["model"]["vocab"]
    known = len(vocabulary)
    if known > config["vocab_size"]:
        raise PlanError(f"the tokenizer in {tokenizer_from} has more tokens than the model's {config['vocab_size']}")
    vocabulary.update({f"unused{id}": id for id in range(known, config["vocab_size"])})
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    for name in _TOKENIZER:
        if (tokenizer_from / name).is_file():
            shutil.copyfile(tokenizer_from / name, folder / name)
    source = _read(tokenizer_from / "config.json")
    ids = {name: source[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id") if name in source}
    if weights:
        _write_shards(folder, config)
    (folder / "config.json").write_text(json.dumps({**config, **ids}, indent=2), encoding="utf-8")
    return folder


def write_adapter(folder: Path, config: Mapping[str, Any], rank: int, seed: int) -> Path:
    """A LoRA adapter on every linear layer of such a model, in PEFT's format; different weights for another seed."""
    if (folder / "adapter_config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    shapes: dict[str, Shape] = {}
    for name, (outputs, inputs) in _linear(config):
        shapes[f"base_model.model.{name}.lora_A.weight"] = (rank, inputs)
        shapes[f"base_model.model.{name}.lora_B.weight"] = (outputs, rank)
    _write(folder / "adapter_model.safetensors", shapes, seed)
    targets = sorted({name.rpartition(".")[2] for name, _ in _linear(config)})
    lora = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 2 * rank, "bias": "none"}
    document = {**lora, "target_modules": targets, "base_model_name_or_path": "dummy"}
    (folder / "adapter_config.json").write_text(json.dumps(document, indent=2), encoding="utf-8")
    return folder


def _linear(config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    """(name, (outputs, inputs)) of each linear layer of the blocks."""
    for layer in range(config["num_hidden_layers"]):
        yield from _block(config, f"model.layers.{layer}")


def _block(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Shape]]:
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    attention = {"q_proj": (queries, hidden), "k_proj": (keys, hidden), "v_proj": (keys, hidden)}
    yield from ((f"{prefix}.self_attn.{name}", shape) for name, shape in attention.items())
    yield f"{prefix}.self_attn.o_proj", (hidden, queries)
    yield from ((f"{prefix}.mlp.{name}", (inner, hidden)) for name in ("gate_proj", "up_proj"))
    yield f"{prefix}.mlp.down_proj", (hidden, inner)


def _write_shards(folder: Path, config: Mapping[str, Any]) -> None:
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    outer: dict[str, Shape] = {"model.embed_tokens.weight": (vocabulary, hidden), "model.norm.weight": (hidden,)}
    shards = [{**outer, "lm_head.weight": (vocabulary, hidden)}]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        norms: dict[str, Shape] = {
            f"{prefix}.{name}.weight": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")
        }
        shards.append(norms | {f"{name}.weight": shape for name, shape in _block(config, prefix)})
    where: dict[str, str] = {}
    for number, shapes in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _write(folder / file, shapes, number)
        where |= dict.fromkeys(shapes, file)
    size = sum(2 * math.prod(shape) for shapes in shards for shape in shapes.values())
    index = {"metadata": {"total_size": size}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _write(path: Path, shapes: Mapping[str, Shape], seed: int) -> None:
    """One file in safetensors' format: the length of the header, the header, the tensors. A bfloat16 is the upper half
    of a float32, and numpy has no name for it, nor has the library's writer for numpy."""
    numbers = np.random.default_rng(seed).standard_normal(_BLOCK, dtype=np.float32) * 0.02
    halves = (numbers.view(np.uint32) >> 16).astype("<u2")
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        size = 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        for shape in shapes.values():
            file.write(np.resize(halves, math.prod(shape)).tobytes())


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PlanError(f"cannot read {path} ({error}); name the folder of a converted base model") from error
    return found
