"""LoRA on vLLM's CPU build by whole matrices, for whatever adapters a batch mixes.

vLLM's own CPU operations index the stacked weights by each token's slot, which copies an adapter's matrices once per
token, and they read "no adapter" (-1) as the last slot. Here the rows of a batch are cut into segments once per step:
a long run of one adapter's rows is multiplied by that adapter's matrices alone; shorter ones, as in decoding, are
multiplied together by those of all adapters they use, and what is not a row's own is set to zero in between. Rows
without an adapter are in no product, so nothing can reach them.

The slices of one layer (q, k and v; gate and up) keep their weights in one piece of memory, so that a segment takes two
products per layer, and only a long one takes more. vLLM goes on writing to its own tensors, which become views.

Only worker processes of vLLM import this (see lora_plugin.py). Weights must be finite: those of a neighbour in a short
run are multiplied by zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch.nn import functional
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

# Rows of one adapter from which its own two products cost less than a share of the joint ones: 36 us against 67 us
# for 32 rows of a 576 x 960 layer and five slots of rank 16 x 3, on two cores with AVX512-BF16.
_LONG = 32
# Rows from which a product per slice costs less than one over all slices, most of whose weights are zeros: 144 us
# against 232 for 2048 rows of the same layer, but 50 us against 20 for 32 rows.
_SLICED = 256


@dataclass(frozen=True, slots=True)
class Segment:
    """Rows [start, stop) and the neighbouring slots [first, last) that they use.

    `foreign` is of shape [rows, slots, 1] and true where a slot is not the row's own; None if all rows use the one.
    """

    start: int
    stop: int
    first: int
    last: int
    foreign: torch.Tensor | None = None


@dataclass(frozen=True, slots=True)
class Fused:
    """One layer's weights for all slots: a of [slots * slices * rank, in], b of [out, slots * slices * rank].

    A slice's b has zeros where the outputs are another slice's; its own end at `ends`. `parts` are vLLM's tensors, now
    views of these.
    """

    a: torch.Tensor
    b: torch.Tensor
    rank: int
    ends: tuple[int, ...]
    parts: tuple[torch.Tensor, ...]

    @property
    def width(self) -> int:
        """Of one slot's inner values."""
        return self.rank * len(self.ends)


def segments(slots: torch.Tensor) -> tuple[Segment, ...]:
    """Of a batch whose row i uses slot `slots[i]`, or none if that is -1."""
    values, counts = torch.unique_consecutive(slots, return_counts=True)
    found: list[Segment] = []
    start = done = 0
    for slot, count in zip(values.tolist(), counts.tolist(), strict=True):
        if count >= _LONG:
            found += _mixed(slots, done, start)
            if slot >= 0:
                found.append(Segment(start, start + count, slot, slot + 1))
            done = start + count
        start += count
    return (*found, *_mixed(slots, done, start))


def _mixed(slots: torch.Tensor, start: int, stop: int) -> list[Segment]:
    own = slots[start:stop]
    used = sorted(set(own.tolist()) - {-1})
    if len(used) == 1 and own.min() >= 0:
        return [Segment(start, stop, used[0], used[0] + 1)]
    # Slots that are not neighbours get a segment each: the weights between them would be multiplied for nothing.
    firsts = [slot for slot in used if slot - 1 not in used]
    lasts = [slot + 1 for slot in used if slot + 1 not in used]
    return [
        Segment(start, stop, first, last, (own[:, None] != torch.arange(first, last)).unsqueeze(-1))
        for first, last in zip(firsts, lasts, strict=True)
    ]


def fuse(lora_a: Sequence[torch.Tensor], lora_b: Sequence[torch.Tensor]) -> Fused:
    """Move a layer's slices ([slots, 1, rank, in] and [slots, 1, out, rank]) together and make them views of that."""
    slots, _, rank, inputs = lora_a[0].shape
    ends = torch.tensor([b.shape[2] for b in lora_b]).cumsum(0).tolist()
    a = lora_a[0].new_zeros(slots, len(lora_a), rank, inputs)
    b = lora_b[0].new_zeros(ends[-1], slots, len(lora_b), rank)
    for index, (part_a, part_b, end) in enumerate(zip(lora_a, lora_b, ends, strict=True)):
        view_a = a[:, index : index + 1]
        view_b = b[end - part_b.shape[2] : end, :, index].transpose(0, 1).unsqueeze(1)
        part_a.set_(view_a.copy_(part_a))  # type: ignore[call-overload]  # its stub lacks this form
        part_b.set_(view_b.copy_(part_b))  # type: ignore[call-overload]  # its stub lacks this form
    return Fused(a.flatten(0, 2), b.flatten(1), rank, tuple(ends), (*lora_a, *lora_b))


def add_lora(y: torch.Tensor, x: torch.Tensor, fused: Fused, scale: float, rows: Sequence[Segment]) -> None:
    """Add scale * (x @ a) @ b of each row's own adapter to the first columns of y, in place."""
    outputs, width = fused.b.shape[0], fused.width
    for each in rows:
        low, high = each.first * width, each.last * width
        inner = functional.linear(x[each.start : each.stop].to(fused.a.dtype), fused.a[low:high])
        if scale != 1:
            inner *= scale
        if each.foreign is not None:
            inner.view(len(inner), -1, width).masked_fill_(each.foreign, 0)
        out, b = y[each.start : each.stop, :outputs], fused.b[:, low:high]
        if each.foreign is not None or len(inner) < _SLICED or len(fused.ends) == 1:
            _expand(out, inner, b)
            continue
        for index, (start, end) in enumerate(pairwise((0, *fused.ends))):
            own = slice(index * fused.rank, (index + 1) * fused.rank)
            _expand(out[:, start:end], inner[:, own], b[start:end, own])


def _expand(out: torch.Tensor, inner: torch.Tensor, b: torch.Tensor) -> None:
    if out.dtype == b.dtype:
        out.addmm_(inner, b.t())
    else:
        out += functional.linear(inner, b)


class GroupedPunicaCPU(PunicaWrapperCPU):  # type: ignore[misc]  # vLLM is not analysed: it is another process
    """vLLM's CPU wrapper with the products of linear layers and logits done by segments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._rows: tuple[Segment, ...] = ()
        self._samples: tuple[Segment, ...] = ()
        self._fused: dict[int, Fused] = {}

    def update_metadata(self, *args: Any, **kwargs: Any) -> None:
        """See PunicaWrapperBase; called when the batch or the slots of its adapters have changed."""
        super().update_metadata(*args, **kwargs)
        self._rows = segments(self.token_lora_indices)
        self._samples = segments(self.sampler_indices)

    def add_lora_linear(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: tuple[torch.Tensor, ...],
        lora_b_stacked: tuple[torch.Tensor, ...],
        scale: float,
        *_: Any,
        **__: Any,
    ) -> None:
        """See PunicaWrapperCPU. The sizes of the slices are those of `lora_b_stacked`."""
        add_lora(y, x, self._layer(lora_a_stacked, lora_b_stacked), scale, self._rows)

    def add_lora_logits(
        self,
        y: torch.Tensor,
        x: torch.Tensor,
        lora_a_stacked: torch.Tensor,
        lora_b_stacked: torch.Tensor,
        scale: float,
        **__: Any,
    ) -> None:
        """See PunicaWrapperCPU."""
        if len(x) != len(self.sampler_indices):
            raise ValueError("LoRA on the output layer cannot score prompts: whose the tokens are is not known")
        add_lora(y, x, self._layer((lora_a_stacked,), (lora_b_stacked,)), scale, self._samples)

    def add_shrink(self, y: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """See PunicaWrapperCPU. Layers sharded over several processes call it; rows without an adapter stay zero."""
        super().add_shrink(y, x, *args, **kwargs)
        for part in y:
            part.view(-1, part.shape[-1])[self.token_lora_indices < 0] = 0

    def add_lora_embedding(self, y: torch.Tensor, x: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        """See PunicaWrapperCPU; the same."""
        super().add_lora_embedding(y, x * (self.token_lora_indices >= 0).unsqueeze(-1), *args, **kwargs)

    def _layer(self, lora_a: tuple[torch.Tensor, ...], lora_b: tuple[torch.Tensor, ...]) -> Fused:
        # By identity: a layer keeps its tensors for life, and Fused keeps them from being replaced by others.
        key = id(lora_a[0])
        if key not in self._fused:
            self._fused[key] = fuse(lora_a, lora_b)
        return self._fused[key]
