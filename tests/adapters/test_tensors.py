"""What is refused at the registry's door because of what the weights or their config hold."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters.errors import UnsafeAdapter, WrongBase
from adapters.manifest import CONFIG, WEIGHTS, BaseModel
from adapters.registry import Registry
from tests.adapters.conftest import MakeAdapter, sign

A, B = "q_proj.lora_A.weight", "q_proj.lora_B.weight"
Tensors = dict[str, Any]


def ones(*shape: int, dtype: Any = np.float32) -> Any:
    return np.ones(shape, dtype)


def with_value(value: float, dtype: Any = np.float32) -> Any:
    found = ones(4, 8, dtype=dtype)
    found[3, 7] = value
    return found


BAD: dict[str, tuple[Tensors, str]] = {
    "a NaN": ({A: with_value(np.nan), B: ones(8, 4)}, "NaN or infinity"),
    "an infinity": ({A: with_value(-np.inf), B: ones(8, 4)}, "NaN or infinity"),
    "a NaN in half precision": ({A: with_value(np.nan, np.float16), B: ones(8, 4)}, "NaN or infinity"),
    "another rank in A": ({A: ones(8, 8), B: ones(8, 4)}, r"lora_A.* rank 4"),
    "another rank in B": ({A: ones(4, 8), B: ones(8, 8)}, r"lora_B.* rank 4"),
    "no matrix": ({A: ones(4), B: ones(8, 4)}, "shape"),
    "half a pair": ({A: ones(4, 8)}, "not half of a LoRA pair"),
    "another tensor": ({A: ones(4, 8), B: ones(8, 4), "lm_head.weight": ones(4, 4)}, "not half of a LoRA pair"),
    "whole numbers": ({A: ones(4, 8, dtype=np.int32), B: ones(8, 4)}, "type I32"),
    "nothing": ({}, "no tensors"),
}


@pytest.mark.parametrize("case", BAD)
def test_weights_that_are_refused(tmp_path: Path, make_adapter: MakeAdapter, case: str) -> None:
    tensors, why = BAD[case]
    source = make_adapter()
    save_file(tensors, source / WEIGHTS)
    sign(source)
    with pytest.raises(UnsafeAdapter, match=why):
        Registry(tmp_path / "registry").install(source)
    assert Registry(tmp_path / "registry").names() == ()


@pytest.mark.parametrize(("bits", "fine"), [(0x3F80, True), (0x7F80, False), (0xFFC1, False)])
def test_bfloat16_is_read_bit_by_bit(tmp_path: Path, make_adapter: MakeAdapter, bits: int, fine: bool) -> None:
    source = make_adapter()
    entry = {"dtype": "BF16", "shape": [4, 8], "data_offsets": [0, 64]}
    other = {"dtype": "BF16", "shape": [8, 4], "data_offsets": [64, 128]}
    header = json.dumps({A: entry, B: other}).encode()
    header += b" " * (-len(header) % 8)
    body = struct.pack("<64H", *[0x3F80] * 63, bits)
    (source / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + body)
    sign(source)
    install: Callable[[], object] = lambda: Registry(tmp_path / "registry").install(source)  # noqa: E731  # called twice
    if fine:
        assert install()
    else:
        with pytest.raises(UnsafeAdapter, match="NaN or infinity"):
            install()


@pytest.mark.parametrize(
    "change",
    [
        {"base_model_name_or_path": "/models/base"},
        {"base_model_name_or_path": "../base"},
        {"base_model_name_or_path": "~/base"},
        {"base_model_name_or_path": "https://example.com/base"},
        {"revision": "a/../../b"},
        {"use_dora": True},
        {"modules_to_save": ["lm_head"]},
        {"bias": "all"},
        {"rank_pattern": {"q_proj": 64}},
    ],
)
def test_a_config_that_is_refused(tmp_path: Path, make_adapter: MakeAdapter, change: dict[str, Any]) -> None:
    source = make_adapter()
    config = json.loads((source / CONFIG).read_text())
    (source / CONFIG).write_text(json.dumps(config | change))
    sign(source)
    with pytest.raises(UnsafeAdapter, match=next(iter(change))):
        Registry(tmp_path / "registry").install(source)


def test_another_base_is_refused_by_content(tmp_path: Path, make_adapter: MakeAdapter) -> None:
    registry = Registry(tmp_path / "registry")
    with pytest.raises(WrongBase, match="tiny"):
        registry.install(make_adapter(), BaseModel("tiny", "c" * 64))
    assert registry.names() == ()
    assert registry.install(tmp_path / "source", BaseModel("renamed", "a" * 64)).name == "demo"
