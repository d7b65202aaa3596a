"""A real training run on a base model of random weights that is small enough for a test: a few steps, a few seconds."""

import io
import json
import os
import signal
import threading
from pathlib import Path

import pytest
from rich.console import Console
from safetensors import safe_open
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from adapters.errors import MalformedData, MissingBase, OutputExists
from adapters.manifest import CONFIG, WEIGHTS, Manifest, base_fingerprint
from adapters.registry import Registry
from adapters.training import train

RECIPE = """
name = "tiny"
data = "train.jsonl"
heldout = "heldout.jsonl"
format = "yes+"
r = 2
alpha = 4
target_modules = ["q_proj", "v_proj"]
learning_rate = 1e-2
epochs = {epochs}
batch_size = 2
max_length = {max_length}
max_answer = 4
seed = 3
dtype = "float32"
"""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama with two layers of 16 and a byte-level vocabulary, seeded."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("base")
    special = ["<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=special[1], pad_token=special[1], additional_special_tokens=special[:1]
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def write_recipe(folder: Path, *, epochs: int = 1, max_length: int = 128) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "recipe.toml").write_text(RECIPE.format(epochs=epochs, max_length=max_length))
    questions = [{"role": "user", "content": f"Is {n} a number?"} for n in range(6)]
    answer = {"role": "assistant", "content": "yes"}
    (folder / "train.jsonl").write_text("\n".join(json.dumps({"messages": [q, answer]}) for q in questions[:4]))
    (folder / "heldout.jsonl").write_text("\n".join(json.dumps({"messages": [q]}) for q in questions[4:]))
    return folder


def run(recipe: Path, base: Path, out: Path, output: io.StringIO | None = None) -> Manifest:
    console = Console(file=output or io.StringIO(), force_terminal=True, width=100)
    return train(recipe, base, out, command="breakeven train tiny", console=console)


def test_the_same_seed_gives_the_same_installable_adapter(
    base: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    output = io.StringIO()
    first = run(recipe, base, tmp_path / "one", output)
    second = run(recipe / "recipe.toml", base, tmp_path / "two")
    assert first.version == second.version
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == (tmp_path / "two" / WEIGHTS).read_bytes()

    installed = Registry(tmp_path / "registry").install(tmp_path / "one")
    assert installed.engine_name == f"tiny@{first.version}" and installed.rank == 2
    installed.manifest.require_base(base_fingerprint(base))
    assert {score.n for score in first.scores} == {2}
    assert str(tmp_path) not in (tmp_path / "one" / CONFIG).read_text() + first.to_json()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "recipe", "registry", "two"]

    assert "training" in output.getvalue() and "2/2" in output.getvalue() and "loss " in output.getvalue()
    captured = capfd.readouterr()
    assert captured.out + captured.err == "", "only the progress bar may speak"


def test_training_changes_the_model_and_saves_bfloat16(base: Path, tmp_path: Path) -> None:
    run(write_recipe(tmp_path / "recipe"), base, tmp_path / "out")
    with safe_open(tmp_path / "out" / WEIGHTS, framework="pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118  # not a mapping
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.bfloat16"}
    assert len(tensors) == 2 * 2 * 2
    # lora_B starts at zero: anything else was learnt.
    assert all(tensor.abs().sum() > 0 for name, tensor in tensors.items() if "lora_B" in name)


def test_an_interrupted_run_leaves_nothing(base: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe", epochs=100_000)
    output = io.StringIO()

    ended = threading.Event()

    def interrupt() -> None:
        while not ended.wait(0.02):
            if "loss " in output.getvalue():
                os.kill(os.getpid(), signal.SIGINT)
                return

    watcher = threading.Thread(target=interrupt)
    watcher.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(recipe, base, tmp_path / "registry" / "out", output)
    finally:
        ended.set()
        watcher.join()
    assert list((tmp_path / "registry").iterdir()) == []


def test_what_cannot_work_is_refused_before_training(base: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OutputExists):
        run(recipe, base, tmp_path / "taken")
    with pytest.raises(MissingBase):
        run(recipe, recipe, tmp_path / "out")
    with pytest.raises(MalformedData, match=r"line 1: \d+ tokens, max_length is 8"):
        run(write_recipe(recipe, max_length=8), base, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["recipe", "taken"]
