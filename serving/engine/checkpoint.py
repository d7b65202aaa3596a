"""Where the files of the base model are: what the engine is given, and what adapters are trained on."""

import asyncio
import sys
from pathlib import Path

from serving.engine.protocol import EngineFailed, Progress
from serving.engine.weights import EMBEDDED_MODEL


async def find_checkpoint(model: str, home: Path, progress: Progress) -> Path:
    """The folder of a base model given as hub id or path; a hub id's is where the engine has downloaded it to.

    Raises EngineFailed.
    """
    if model == EMBEDDED_MODEL:
        return await prepare_weights(home, progress)
    return await asyncio.to_thread(_on_disk, model)


def _on_disk(model: str) -> Path:
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        raise EngineFailed(f"{model} is not on this machine; download it, or set engine.model to its folder") from None


async def prepare_weights(home: Path, progress: Progress) -> Path:
    """The embedded base model's checkpoint folder, converted first if need be. Raises EngineFailed."""
    target = (home / "models" / EMBEDDED_MODEL).resolve()
    if target.is_dir():
        return target
    progress(f"converting {EMBEDDED_MODEL} (once)")
    command = (sys.executable, "-m", "serving.engine.weights", str(target))
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    _, stderr = await process.communicate()
    if process.returncode != 0:
        lines = stderr.decode("utf-8", "replace").strip().splitlines()
        raise EngineFailed("the base model could not be prepared: " + "\n".join(lines[-5:]))
    return target
