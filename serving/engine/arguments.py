"""How the vLLM that we start is told what to do: its command line and its variables, each with its reason.

What is measured is in benchmarks/results/engine/ (see docs/engine.md). On GPUs vLLM chooses by their memory: nothing of
ours has been measured there yet, so nothing is overruled.
"""

import sys
from collections.abc import Mapping, Sequence

from serving.engine.device import GPU_MODEL, GPU_MODEL_ARGS, Device
from serving.sections import Engine as EngineSettings

_RESERVED = "VLLM_CPU_NUM_OF_RESERVED_CPU"
# vLLM computes on all cores but one, which its API server and scheduler get. Of two cores that is half: 131.6 tokens/s
# became 209.7 with both (330-token prompts, 64 out, 32 at once). With more than this many, one costs little.
_FEW_CORES = 4
_CPU_ARGUMENTS = (
    # Half of vLLM's 2048: the same throughput (223.3 against 209.7 tokens/s, within noise), and those who are being
    # answered wait half as long while another's prompt is read; TTFT p95 4.96 s against 5.57.
    *("--max-num-batched-tokens", "1024"),
)


def cpu_variables(settings: EngineSettings, device: Device, present: Mapping[str, str]) -> dict[str, str]:
    """Variables for an engine on a CPU. Those of `present`, which the operator has set, stay as they are."""
    chosen = {"VLLM_CPU_KVCACHE_SPACE": str(settings.cpu_kv_cache_gib)}
    if device.count <= _FEW_CORES and _RESERVED not in present:
        chosen[_RESERVED] = "0"
    return chosen


def server_command(
    settings: EngineSettings, model: str, name: str, loras: Sequence[str], port: int, *, cpu: bool = False
) -> list[str]:
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
    if cpu:
        command += _CPU_ARGUMENTS
    command += loras
    if model == GPU_MODEL:
        command += GPU_MODEL_ARGS
    return [*command, *settings.extra_args]
