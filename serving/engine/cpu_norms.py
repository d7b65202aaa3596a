"""RMS norms by vLLM's own C++ kernels for CPUs, which it has and does not use.

vLLM leaves norms to the compiler there, and does not compile when it serves adapters: what then runs is eight PyTorch
operations in float32. vLLM chooses an implementation of a norm by a list of names, to which these are added.
"""

import torch
from vllm import ir

PROVIDER = "cpu_c"


def _fits(x: torch.Tensor, weight: torch.Tensor | None, epsilon: float, variance_size: int | None = None) -> bool:  # noqa: ARG001  # the norm's own arguments
    return variance_size is None and weight is not None and weight.dtype == x.dtype and x.is_contiguous()


def _both_fit(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,
) -> bool:
    return _fits(x, weight, epsilon, variance_size) and x_residual.dtype == x.dtype and x_residual.is_contiguous()


_norm = ir.ops.rms_norm.register_impl(PROVIDER, supports_args=_fits)
_add_and_norm = ir.ops.fused_add_rms_norm.register_impl(PROVIDER, supports_args=_both_fit, inplace=True)


@_norm  # type: ignore[untyped-decorator]  # vLLM is not analysed
def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,  # noqa: ARG001  # see _fits
) -> torch.Tensor:
    """See vllm.ir.ops.rms_norm."""
    out = torch.empty_like(x)
    torch.ops._C.rms_norm(out, x, weight, epsilon)
    return out


@_add_and_norm  # type: ignore[untyped-decorator]  # vLLM is not analysed
def fused_add_rms_norm(
    x: torch.Tensor,
    x_residual: torch.Tensor,
    weight: torch.Tensor | None,
    epsilon: float,
    variance_size: int | None = None,  # noqa: ARG001  # see _fits
) -> tuple[torch.Tensor, torch.Tensor]:
    """See vllm.ir.ops.fused_add_rms_norm."""
    torch.ops._C.fused_add_rms_norm(x, x_residual, weight, epsilon)
    return x, x_residual
