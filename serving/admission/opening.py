"""The door as the settings want it."""

import time
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from serving.admission.door import Door
from serving.admission.metrics import DoorCollector
from serving.engine.device import Device
from serving.sections import Settings

_FLAG = "--max-num-seqs"
# vLLM's own default on GPUs of less than 70 GiB; larger ones take more, which engine.extra_args then says.
_GPU_PLACES = 256
# Assumed: two cores give no more tokens per second with more requests at once, and each waits longer for its own.
_CPU_PLACES = 32


def open_door(settings: Settings, device: Device, registry: CollectorRegistry) -> Door:
    """The engine's door, with its metrics in `registry`."""
    wish = settings.admission
    places = wish.max_running or _places(settings, device)
    tenants = settings.tenants

    def weight(name: str) -> float:
        return tenants[name].weight if name in tenants else 1.0

    door = Door(places, wish.max_queued, wish.objective_s, weight, time.monotonic)
    DoorCollector(door, registry)
    return door


def _places(settings: Settings, device: Device) -> int:
    own_cpu = device.kind == "cpu" and settings.engine.kind == "vllm" and settings.engine.url is None
    return _flag(settings.engine.extra_args) or (_CPU_PLACES if own_cpu else _GPU_PLACES)


def _flag(arguments: Sequence[str]) -> int | None:
    """What an engine that we start is told, as `--max-num-seqs 64` or `--max-num-seqs=64`."""
    for at, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        text = value or next(iter(arguments[at + 1 :]), "")
        if name == _FLAG and text.isdigit():
            return int(text) or None
    return None
