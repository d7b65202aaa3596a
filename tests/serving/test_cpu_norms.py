"""Norms by vLLM's C++ kernels against its own definition of them, and when they are chosen."""

from types import SimpleNamespace
from typing import Any

import pytest

from serving.engine.lora_plugin import TESTED, put_first, vllm_version

if vllm_version() not in TESTED:
    pytest.skip(f"needs vLLM {', '.join(TESTED)}", allow_module_level=True)

import torch
from vllm import ir
from vllm.platforms import current_platform

from serving.engine.cpu_norms import PROVIDER

current_platform.import_kernels()
OPERATIONS = (ir.ops.rms_norm, ir.ops.fused_add_rms_norm)


def inputs(operation: Any, rows: int, dtype: Any) -> list[Any]:
    torch.manual_seed(3)
    activations = [torch.randn(rows, 576, dtype=dtype) for _ in range(1 if operation is OPERATIONS[0] else 2)]
    return [*activations, torch.randn(576, dtype=dtype), 1e-5]


def both(operation: Any, arguments: list[Any]) -> list[Any]:
    def run(name: str) -> Any:
        copies = [each.clone() if isinstance(each, torch.Tensor) else each for each in arguments]
        return operation.impls[name].impl_fn(*copies)

    return [run("native"), run(PROVIDER)]


@pytest.mark.parametrize("operation", OPERATIONS, ids=["norm", "add and norm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
@pytest.mark.parametrize("rows", [1, 7, 400])
def test_they_are_the_same_within_rounding(operation: Any, dtype: Any, rows: int) -> None:
    native, ours = both(operation, inputs(operation, rows, dtype))
    bound = 2**-6 if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(ours, native, rtol=bound, atol=bound)


def test_what_the_kernels_cannot_do_is_left_to_vllm() -> None:
    x, weight = torch.randn(4, 8), torch.randn(8)
    fits = OPERATIONS[0].impls[PROVIDER].supports_args
    assert fits(x, weight, 1e-5)
    assert not fits(x, weight, 1e-5, 4)
    assert not fits(x, None, 1e-5)
    assert not fits(x, weight.bfloat16(), 1e-5)
    assert not fits(x.t(), weight, 1e-5)


def test_they_come_first_only_where_vllm_serves_adapters_and_so_does_not_compile() -> None:
    def chosen(lora_config: object, settings: dict[str, bool]) -> list[str]:
        priority = SimpleNamespace(rms_norm=["native"], fused_add_rms_norm=["native"])
        config = SimpleNamespace(lora_config=lora_config, additional_config=settings)
        found = put_first(priority, config, PROVIDER)
        assert found.rms_norm == found.fused_add_rms_norm
        return list(found.rms_norm)

    assert chosen(object(), {}) == [PROVIDER, "native"]
    assert chosen(None, {}) == ["native"]
    assert chosen(object(), {"grouped_cpu_lora": False}) == ["native"]
