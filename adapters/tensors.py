"""What the weights of an adapter must be: pairs of small matrices of one rank, in a float type, every number finite.

An engine would load anything that parses: a wrong rank is noticed as a crash of the whole engine, and a NaN only in
the answers. No torch: the bytes are looked at where they lie.
"""

import json
import math
import struct
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from adapters.errors import UnsafeAdapter

# safetensors' name of a type -> (numpy's type of the same width, bits that are all ones in a NaN or an infinity).
_FLOATS = {"F32": ("<u4", 0x7F80_0000), "F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80)}
_A, _B = ".lora_A.weight", ".lora_B.weight"


def check_readable(path: Path) -> None:
    """Raises UnsafeAdapter unless `path` is a whole safetensors file; a pickle is never opened as one."""
    try:
        with safe_open(path, framework="numpy") as weights:
            weights.keys()
    except SafetensorError as error:
        raise UnsafeAdapter(
            f"{path.name} in {path.parent} is not a safetensors file, or was cut off ({error}): "
            "train it again or copy it again"
        ) from None


def check_tensors(path: Path, rank: int) -> None:
    """Raises UnsafeAdapter unless `path`, a readable file, holds LoRA pairs of `rank` with finite numbers only."""
    start, tensors = _header(path)
    if not tensors:
        raise UnsafeAdapter(f"{path.name} holds no tensors: train the adapter again")
    for name, entry in tensors.items():
        _check_shape(name, entry["shape"], rank)
        if not name.endswith((_A, _B)) or _partner(name) not in tensors:
            raise UnsafeAdapter(f"tensor {name!r} is not half of a LoRA pair: train the adapter with peft's LoRA")
        if entry["dtype"] not in _FLOATS:
            raise UnsafeAdapter(f"tensor {name!r} is of type {entry['dtype']}: save it as {', '.join(_FLOATS)}")
        if not _finite(path, start, entry):
            raise UnsafeAdapter(
                f"tensor {name!r} holds NaN or infinity: the training diverged; lower its learning rate"
            )


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    return 8 + length, header


def _partner(name: str) -> str:
    return name.removesuffix(_A) + _B if name.endswith(_A) else name.removesuffix(_B) + _A


def _check_shape(name: str, shape: list[int], rank: int) -> None:
    found = shape[0 if name.endswith(_A) else -1] if len(shape) == 2 else None
    if found != rank:
        raise UnsafeAdapter(
            f"tensor {name!r} has the shape {shape}, its config says rank {rank}: weights and config do not belong "
            "together; copy both from the same training"
        )


def _finite(path: Path, start: int, entry: dict[str, Any]) -> bool:
    kind, ones = _FLOATS[entry["dtype"]]
    values = np.fromfile(path, kind, math.prod(entry["shape"]), offset=start + entry["data_offsets"][0])
    return not bool(np.any((values & ones) == ones))
