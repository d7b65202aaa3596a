"""A base model folder as small as can be: its tokenizer is that of the packaged embedder, its weights are none."""

import json
from pathlib import Path

from retrieval.model_folder import packaged_minilm


def small_base(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "tokenizer.json").write_bytes((packaged_minilm() / "tokenizer.json").read_bytes())
    (folder / "config.json").write_text(json.dumps({"eos_token_id": 2, "vocab_size": 30522}))
    (folder / "model.safetensors").write_bytes(b"")
    return folder
