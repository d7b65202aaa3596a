"""What the engine runs on, and which base model suits it when none is configured."""

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serving.engine.weights import EMBEDDED_MODEL

# Apache-2.0, dense, tool calls, LoRA in vLLM; the closest openly licensed peer of Llama 3 8B that vLLM lists.
GPU_MODEL = "Qwen/Qwen3-8B"
# Qwen3 thinks aloud unless its template is told not to; clients of a plain chat endpoint do not expect that.
GPU_MODEL_ARGS = ("--default-chat-template-kwargs", '{"enable_thinking": false}')


@dataclass(frozen=True, slots=True)
class Device:
    """The accelerators of this machine, or its CPU."""

    kind: Literal["gpu", "cpu"]
    name: str
    count: int

    @property
    def default_model(self) -> str:
        """The base model to serve when the settings name none."""
        return GPU_MODEL if self.kind == "gpu" else EMBEDDED_MODEL


def detect() -> Device:
    """Ask nvidia-smi; without an answer it is a CPU."""
    command = shutil.which("nvidia-smi")
    if command is not None:
        query = [command, "--query-gpu=name", "--format=csv,noheader"]
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
        names = [line.strip() for line in answer.stdout.splitlines() if line.strip()]
        if answer.returncode == 0 and names:
            return Device("gpu", names[0], len(names))
    return Device("cpu", _cpu_name(), os.cpu_count() or 1)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"
