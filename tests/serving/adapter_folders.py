"""Adapters for the simulated engine's base model: small real safetensors that are installed in a moment."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from adapters.manifest import CONFIG, MANIFEST, WEIGHTS, Manifest, Score, content_version
from adapters.registry import AdapterVersion, Registry
from serving.engine.protocol import LoraModule

BASE = "simulated"


def write_adapter(
    folder: Path,
    seed: int,
    name: str = "tone",
    rank: int = 4,
    scores: Sequence[tuple[str, float]] = (),
    base: str = BASE,
) -> Path:
    """An adapter folder that is complete and correct; another seed is another version."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(seed)
    pair = {"lora_A": (rank, 8), "lora_B": (8, rank)}
    weights = {f"q_proj.{half}.weight": random.normal(size=size).astype(np.float32) for half, size in pair.items()}
    save_file(weights, folder / WEIGHTS)
    (folder / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": rank, "base_model_name_or_path": base}))
    manifest = Manifest(
        name=name,
        version=content_version(folder),
        base_model=base,
        base_sha256="a" * 64,
        data_sha256="b" * 64,
        recipe={},
        command="breakeven train demo",
        seed=seed,
        scores=tuple(Score(name=each, value=value, n=50, low=0.0, high=1.0) for each, value in scores),
        libraries={},
        created="2026-01-31",
    )
    (folder / MANIFEST).write_text(manifest.to_json())
    return folder


def installed(home: Path, seeds: Sequence[int], **options: object) -> list[AdapterVersion]:
    """These versions in the registry of a gateway's state; the first is prod."""
    registry = Registry(home / "adapters")
    found = []
    for seed in seeds:
        folder = write_adapter(home / "made" / f"{options.get('name', 'tone')}-{seed}", seed, **options)  # type: ignore[arg-type]  # options of write_adapter
        found.append(registry.install(folder))
    return found


def lora(folder: Path, name: str) -> LoraModule:
    """As little of an adapter as an engine without weights wants to see."""
    (folder / name).mkdir(exist_ok=True)
    (folder / name / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    return LoraModule(name, folder / name, 4)
