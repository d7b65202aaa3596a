"""The command line of the vLLM that we start: each argument with its reason."""

import sys
from collections.abc import Sequence

from serving.engine.device import GPU_MODEL, GPU_MODEL_ARGS
from serving.sections import Engine as EngineSettings


def server_command(settings: EngineSettings, model: str, name: str, loras: Sequence[str], port: int) -> list[str]:
    """The vLLM server's command line. The key is not on it: it goes through the environment.

    `loras` are the arguments for serving adapters, none if it is to serve none.
    """
    # Not the `vllm` script: CPU builds carry another package name, and the script looks up its own version by name.
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port), "--dtype", settings.dtype]
    command += ["--tensor-parallel-size", str(settings.tensor_parallel_size), "--disable-uvicorn-access-log"]
    # Cached tokens are part of the meter; tools work as OpenAI's do only with automatic tool choice.
    command += ["--enable-prompt-tokens-details"]
    command += ["--enable-auto-tool-choice", "--tool-call-parser", settings.tool_call_parser]
    # auto: the model's own length, or what the memory can hold. Without it a long context model refuses to start.
    command += ["--max-model-len", str(settings.max_model_len or "auto")]
    if settings.gpu_memory_utilization is not None:
        command += ["--gpu-memory-utilization", str(settings.gpu_memory_utilization)]
    if settings.quantization is not None:
        command += ["--quantization", settings.quantization]
    command += loras
    if model == GPU_MODEL:
        command += GPU_MODEL_ARGS
    return [*command, *settings.extra_args]
