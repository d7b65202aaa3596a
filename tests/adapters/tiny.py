"""A base model of random weights, small enough that a test can really train it, and a process to train it in."""

import io
import json
import multiprocessing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from adapters.manifest import Manifest
from adapters.plan import make_plan
from adapters.runs import Schedule
from adapters.speed import Machine
from adapters.training import train

RECIPE = """
name = "tiny"
data = "train.jsonl"
{scored}
r = 2
alpha = 4
target_modules = ["q_proj", "v_proj"]
learning_rate = 1e-2
epochs = {epochs}
batch_size = 2
max_length = {max_length}
seed = 3
dtype = "float32"
{more}
"""
SCORED = """
heldout = "heldout.jsonl"
format = "yes+"
max_answer = 4
"""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_base(folder: Path, template: str = TEMPLATE) -> Path:
    """A Llama with two layers of 16 and a byte-level vocabulary, seeded."""
    special = ["<|im_start|>", "<|im_end|>"]
    vocabulary = {token: i for i, token in enumerate(special + sorted(pre_tokenizers.ByteLevel.alphabet()))}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token=special[1], pad_token=special[1], additional_special_tokens=special[:1]
    )
    tokenizer.chat_template = template
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


def chat(*turns: str, **more: Any) -> str:
    """A line of chat data: question, answer, question, answer."""
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]
    return json.dumps({"messages": messages, **more})


def write_recipe(
    folder: Path,
    *,
    epochs: int = 1,
    max_length: int = 128,
    scored: bool = True,
    more: str = "",
    lines: Sequence[str] = (),
) -> Path:
    """A folder with recipe.toml and its data; four examples unless `lines` are given."""
    folder.mkdir(exist_ok=True)
    text = RECIPE.format(epochs=epochs, max_length=max_length, scored=SCORED if scored else "", more=more)
    (folder / "recipe.toml").write_text(text)
    (folder / "train.jsonl").write_text("\n".join(lines or [chat(f"Is {n} a number?", "yes") for n in range(4)]))
    (folder / "heldout.jsonl").write_text("\n".join(chat(f"Is {n} a number?") for n in range(4, 6)))
    return folder


def run(recipe: Path, base: Path, out: Path, output: io.StringIO | None = None, **schedule: Any) -> Manifest:
    """Train in this process, on a machine whose state lies beside `out`."""
    console = Console(file=output or io.StringIO(), force_terminal=True, width=100)
    machine = Machine(out.parent / "state", "test machine")
    plan = make_plan(recipe, base)
    return train(plan, out, machine, command="breakeven train tiny", console=console, schedule=Schedule(**schedule))


def start(recipe: Path, base: Path, out: Path, **schedule: Any) -> Any:
    """Train in another process, which has torch loaded already and one thread, as every run here must."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=_run, args=(recipe, base, out, schedule))
    process.start()
    return process


def _run(recipe: Path, base: Path, out: Path, schedule: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    run(recipe, base, out, **schedule)
