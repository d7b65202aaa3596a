"""Made-up models load as real ones do, and every token id of theirs can be written down."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from benchmarks.errors import PlanError
from benchmarks.gpu.correctness import agreement
from benchmarks.gpu.scale import FULL, TINY
from benchmarks.gpu.weights import write_adapter, write_model
from tests.benchmarks.gpu.small_base import small_base

CONFIG = {**TINY.model, "hidden_size": 64, "intermediate_size": 96, "head_dim": 16, "vocab_size": 30600}


def test_a_model_with_weights_loads_without_a_missing_tensor(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", CONFIG, small_base(tmp_path / "base"), weights=True)
    loaded: Any = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    model, info = loaded
    assert (info["missing_keys"], info["unexpected_keys"], info["mismatched_keys"]) == (set(), set(), set())
    assert model.dtype == torch.bfloat16
    weights = model.lm_head.weight.float()
    assert weights.isfinite().all()
    assert 0.015 < weights.std() < 0.025
    assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 30600)


def test_an_adapter_fits_the_model(tmp_path: Path) -> None:
    from peft import PeftModel

    folder = write_model(tmp_path / "model", CONFIG, small_base(tmp_path / "base"), weights=True)
    first, second = (write_adapter(tmp_path / str(seed), CONFIG, 4, seed) for seed in (1, 2))
    plain: Any = AutoModelForCausalLM.from_pretrained(folder)
    before = plain(torch.tensor([[1, 2, 3]])).logits
    adapted: Any = PeftModel.from_pretrained(plain, first)
    assert adapted.peft_config["default"].r == 4
    assert not torch.equal(before, adapted(torch.tensor([[1, 2, 3]])).logits)
    files = [(each / "adapter_model.safetensors").read_bytes() for each in (first, second)]
    assert files[0] != files[1]


def test_every_token_id_has_text(tmp_path: Path) -> None:
    """A dummy model answers any of its ids; one without text would be a chunk without content, and no first token."""
    folder = write_model(tmp_path / "model", CONFIG, small_base(tmp_path / "base"))
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 30600
    assert tokenizer.decode([30599]) == "unused30599"
    assert tokenizer.encode("paid leave", add_special_tokens=False).ids == Tokenizer.from_file(
        str(tmp_path / "base" / "tokenizer.json")
    ).encode("paid leave", add_special_tokens=False).ids  # fmt: skip
    assert json.loads((folder / "config.json").read_text())["eos_token_id"] == 2
    with pytest.raises(PlanError, match="more tokens than"):
        write_model(tmp_path / "small", {**CONFIG, "vocab_size": 100}, tmp_path / "base")


def test_the_full_shape_is_llama_3_1_8b() -> None:
    """Its published number of parameters, 8,030,261,248, from its configuration."""
    c = FULL.model
    hidden, inner = c["hidden_size"], c["intermediate_size"]
    keys = c["num_key_value_heads"] * c["head_dim"]
    layer = 2 * hidden * hidden + 2 * keys * hidden + 3 * inner * hidden + 2 * hidden
    assert 2 * c["vocab_size"] * hidden + c["num_hidden_layers"] * layer + hidden == 8_030_261_248


def test_agreement_says_where_answers_part() -> None:
    found = agreement([[1, 2, 3], [1, 2, 3], [1, 2, 3], [4]], [[1, 2, 3], [1, 9, 3], [1, 2], [4]])
    assert (found.equal, found.questions, found.share, found.parted) == (2, 4, 0.5, ((1, 1), (2, 2)))
