"""A vLLM plugin for CPU builds: its processes sleep while they wait for each other, where vLLM's own way is to spin.

A reader of vLLM's shared memory queues asks again and again for a second before it waits for a notification. On a GPU
that saves microseconds; on a CPU the scheduler's spinning takes a core from the computation it waits for, and the
worker's from whatever runs beside the engine. A notification is sent for every message either way. On a busy machine
one gets lost now and then, and vLLM's reader looks by itself only after five seconds, in which an answer stands still;
ours looks every ten milliseconds.

vLLM finds it by its entry point (`vllm.general_plugins`) and calls `register` in each of its processes. `VLLM_PLUGINS`,
which lists the plugins that vLLM may load, switches it off.
"""

from serving.engine.lora_plugin import TESTED, vllm_version

NAME = "breakeven_waiting_cpu"
# Long enough for an answer that is nearly there, short beside a step of tens of milliseconds.
SPIN_S = 0.0005
RECHECK_MS = 10


def register() -> None:
    """Shorten spinning and waiting in this process, if it computes on a CPU and vLLM is of a version that was tried."""
    from vllm.distributed.device_communicators import shm_broadcast
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and vllm_version() in TESTED:
        shm_broadcast.SpinCondition.__init__.__defaults__ = (SPIN_S,)
        # vLLM has no setting for it.
        shm_broadcast.SHM_READER_RECHECK_INTERVAL_MS = RECHECK_MS
