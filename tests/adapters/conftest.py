"""Adapters made on the spot: small real safetensors files, and a base model of a few thousand random weights."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from adapters.manifest import CONFIG, MANIFEST, WEIGHTS, Manifest, Score, content_version

MakeAdapter = Callable[..., Path]


def sign(folder: Path, name: str = "demo") -> Manifest:
    """Write the manifest that belongs to the weights and config in `folder`."""
    manifest = Manifest(
        name=name,
        version=content_version(folder),
        base_model="tiny",
        base_sha256="a" * 64,
        data_sha256="b" * 64,
        recipe={"r": 4, "target_modules": ["q_proj"]},
        command="breakeven train demo",
        seed=1,
        scores=(Score(name="format_gained", value=0.5, n=4, low=0.15, high=0.85),),
        libraries={"peft": "0"},
        created="2026-01-31",
    )
    (folder / MANIFEST).write_text(manifest.to_json())
    return manifest


@pytest.fixture
def make_adapter(tmp_path: Path) -> MakeAdapter:
    """Returns make(label, seed, name) -> an adapter folder that is complete and correct."""

    def make(label: str = "source", seed: int = 0, name: str = "demo") -> Path:
        folder = tmp_path / label
        folder.mkdir()
        random = np.random.default_rng(seed)
        pair = {"lora_A": (4, 8), "lora_B": (8, 4)}
        weights = {f"q_proj.{half}.weight": random.normal(size=size).astype(np.float32) for half, size in pair.items()}
        save_file(weights, folder / WEIGHTS)
        (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 4, "base_model_name_or_path": "tiny"}))
        sign(folder, name)
        return folder

    return make
