"""The grouped LoRA operations against vLLM's own and against exact arithmetic, on random weights and batches."""

import itertools
import random
from dataclasses import dataclass
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("vllm.lora.punica_wrapper.punica_cpu", reason="vLLM's CPU build is not installed")
from vllm.lora.layers import LoRAMapping  # noqa: E402  # after the skip
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU  # noqa: E402  # after the skip

from serving.engine.grouped_lora import GroupedPunicaCPU, segments  # noqa: E402  # after the skip

SLOTS, RANK, INPUTS = 5, 16, 96
QKV = (96, 32, 32)
# Slot per row: prefills, decodes, and steps that hold both; -1 is a base row.
BATCHES = {
    "one adapter, prefill": [2] * 300,
    "one adapter, decode": [0] * 7,
    "one row": [4],
    "base rows only": [-1] * 50,
    "one base row": [-1],
    "decode of four and base rows": [0, -1, 3, 1, 1, -1, 2, 0, 3, -1],
    "slots far apart": [0, 4, -1, 0, 4, 2],
    "last slot and base rows": [4, -1, 4, -1],
    "decodes before prefills": [0, 1, -1, 3] + [1] * 40 + [-1] * 33 + [4] * 100 + [2, -1, 0],
    "short prefills": [0] * 31 + [1] * 31 + [-1] * 31 + [2] * 32,
    "long prefill beside others": [0, 1] + [3] * 300 + [-1] * 2 + [0] * 260,
    "base prefill between": [3] * 32 + [-1] * 64 + [3] * 32,
}
RANDOM = random.Random(5)
for number in range(6):
    runs = [[RANDOM.randrange(-1, SLOTS)] * RANDOM.choice((1, 1, 1, 5, 31, 32, 90)) for _ in range(12)]
    BATCHES[f"random {number}"] = list(itertools.chain(*runs))


@dataclass
class Layer:
    """Weights as vLLM keeps them for a layer of several slices."""

    a: tuple[Any, ...]
    b: tuple[Any, ...]

    def copy(self) -> "Layer":
        return Layer(tuple(each.clone() for each in self.a), tuple(each.clone() for each in self.b))


def layer(outputs: tuple[int, ...] = QKV, dtype: Any = torch.bfloat16, slots: int = SLOTS) -> Layer:
    a = tuple(torch.randn(slots, 1, RANK, INPUTS, dtype=dtype) / INPUTS**0.5 for _ in outputs)
    b = tuple(torch.randn(slots, 1, out, RANK, dtype=dtype) / RANK**0.5 for out in outputs)
    return Layer(a, b)


def wrapper(kind: type, slots: list[int]) -> Any:
    made = kind(max(8192, len(slots)), 256, torch.device("cpu"))
    ids = tuple(0 if slot < 0 else 100 + slot for slot in slots)
    made.update_metadata(LoRAMapping(ids, ids, is_prefill=True), [100 + slot for slot in range(SLOTS)], SLOTS + 1, 512)
    return made


def exact(slots: list[int], x: Any, y: Any, weights: Layer, scale: float = 1.0) -> Any:
    """In double precision, row by row."""
    out = y.double()
    for row, slot in enumerate(slots):
        if slot >= 0:
            sums = [
                b[slot, 0].double() @ (a[slot, 0].double() @ x[row].double())
                for a, b in zip(weights.a, weights.b, strict=True)
            ]
            out[row] += scale * torch.cat(sums)
    return out


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(11)


@pytest.mark.parametrize("slots", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("outputs", [QKV, (64, 64), (80,)], ids=["qkv", "gate_up", "one"])
def test_as_near_to_the_exact_result_as_vllm_and_base_rows_untouched(
    slots: list[int], outputs: tuple[int, ...]
) -> None:
    weights = layer(outputs)
    x, y = torch.randn(len(slots), INPUTS).bfloat16(), torch.randn(len(slots), sum(outputs)).bfloat16()
    right, stock, ours = exact(slots, x, y, weights), y.clone(), y.clone()
    wrapper(PunicaWrapperCPU, slots).add_lora_linear(stock, x, weights.a, weights.b, 1.0, outputs)
    wrapper(GroupedPunicaCPU, slots).add_lora_linear(ours, x, weights.a, weights.b, 1.0, outputs)

    base = torch.tensor(slots) < 0
    assert torch.equal(ours[base], y[base])
    # vLLM rounds to bfloat16 three times on the way (8 bits: 2**-9 relative each), we do so twice.
    torch.testing.assert_close(ours[~base].float(), stock[~base].float(), rtol=2**-7, atol=2**-6)
    error, allowed = (ours - right).abs()[~base], (stock - right).abs()[~base]
    assert not len(error) or error.mean() <= 1.05 * allowed.mean()


def test_vllm_itself_reads_no_adapter_as_the_last_slot() -> None:
    """What the empty slot and this plugin are for: should vLLM mend it, both can go."""
    slots, weights = [0, -1], layer()
    x, y = torch.randn(2, INPUTS).bfloat16(), torch.zeros(2, sum(QKV)).bfloat16()
    wrapper(PunicaWrapperCPU, slots).add_lora_linear(y, x, weights.a, weights.b, 1.0, QKV)
    assert not torch.equal(y[1], torch.zeros_like(y[1]))


@pytest.mark.parametrize("slots", BATCHES.values(), ids=BATCHES)
def test_output_layer_sharded_layers_and_embeddings(slots: list[int]) -> None:
    weights, grouped = layer((200,)), wrapper(GroupedPunicaCPU, slots)
    x, y = torch.randn(len(slots), INPUTS).bfloat16(), torch.randn(len(slots), 200).bfloat16()
    right, base = exact(slots, x, y, weights), torch.tensor(slots) < 0

    logits = y.clone()
    grouped.add_lora_logits(logits, x, weights.copy().a[0], weights.copy().b[0], 1.0)
    inner, sharded = (torch.zeros(len(slots), RANK),), y.clone()
    grouped.add_shrink(inner, x, weights.a, 1.0)
    grouped.add_expand(sharded, inner, weights.b, (200,))
    embedded = y.clone()
    grouped.add_lora_embedding(embedded, inner[0] + base[:, None], weights.b[0])
    for found in (logits, sharded, embedded):
        assert torch.equal(found[base], y[base])
        torch.testing.assert_close(found.double(), right, rtol=2**-6, atol=2**-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_other_types_a_scale_and_padded_outputs(dtype: Any) -> None:
    slots, weights = BATCHES["decodes before prefills"], layer(dtype=dtype)
    x = torch.randn(len(slots), INPUTS, dtype=dtype)
    y = torch.randn(len(slots), sum(QKV) + 24, dtype=torch.float32)
    found = y.clone()
    wrapper(GroupedPunicaCPU, slots).add_lora_linear(found, x, weights.a, weights.b, 0.5, QKV)
    right = exact(slots, x, y[:, : sum(QKV)], weights, 0.5)
    assert torch.equal(found[:, sum(QKV) :], y[:, sum(QKV) :])
    torch.testing.assert_close(found[:, : sum(QKV)].double(), right, rtol=2**-8, atol=2**-8)


def test_what_vllm_writes_into_its_slots_later_is_used() -> None:
    """Swapping: an adapter's slot is cleared and filled with another's weights between two steps."""
    slots, weights, other = [1, 0, -1, 1], layer(), layer()
    x, y = torch.randn(4, INPUTS).bfloat16(), torch.zeros(4, sum(QKV)).bfloat16()
    grouped = wrapper(GroupedPunicaCPU, slots)
    grouped.add_lora_linear(y.clone(), x, weights.a, weights.b, 1.0, QKV)
    for mine, theirs in zip((*weights.a, *weights.b), (*other.a, *other.b), strict=True):
        mine[1] = 0
        mine[1, 0].copy_(theirs[1, 0])
        assert torch.equal(mine[1], theirs[1])
    used = Layer(*(tuple(each[:2].clone() for each in part) for part in (weights.a, weights.b)))
    grouped.add_lora_linear(y, x, weights.a, weights.b, 1.0, QKV)
    torch.testing.assert_close(y.double(), exact(slots, x, torch.zeros_like(y), used), rtol=2**-6, atol=2**-5)


def test_a_neighbour_that_overflows_does_not_reach_other_rows() -> None:
    weights = layer()
    weights.a[0][1] = 1e38
    x, y = torch.ones(3, INPUTS).bfloat16(), torch.zeros(3, sum(QKV)).bfloat16()
    wrapper(GroupedPunicaCPU, [0, 1, -1]).add_lora_linear(y, x, weights.a, weights.b, 1.0, QKV)
    assert not y[1].isfinite().all()
    assert y[0].isfinite().all() and not y[2].any()


def test_every_row_with_an_adapter_is_in_segments_once() -> None:
    for slots in BATCHES.values():
        seen = [-1] * len(slots)
        for each in segments(torch.tensor(slots)):
            for row in range(each.start, each.stop):
                if each.foreign is None:
                    mine = [each.first]
                else:
                    mine = [
                        each.first + slot
                        for slot in (~each.foreign[row - each.start, :, 0]).nonzero().flatten().tolist()
                    ]
                for slot in mine:
                    assert seen[row] == -1
                    seen[row] = slot
        assert seen == slots


def test_a_prompt_scored_beside_an_adapted_output_layer_is_an_error_with_a_reason() -> None:
    weights = layer((200,))
    with pytest.raises(ValueError, match="cannot score prompts"):
        wrapper(GroupedPunicaCPU, [0, 1]).add_lora_logits(
            torch.zeros(9, 200), torch.zeros(9, INPUTS), weights.a[0], weights.b[0], 1.0
        )
