"""Trains a LoRA adapter from a recipe, from top to bottom: read, check, train, round, score, write.

Only the assistant's last message carries loss; all messages before it are the prompt. The same seed on the same
machine gives the same adapter version. Importing this module imports torch and trl; import it where it is used.
"""

import datetime
import json
import logging
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import datasets  # type: ignore[import-untyped]  # it ships no types
import torch
import transformers
from peft import LoraConfig, get_peft_model_state_dict
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from adapters.dataset import Dataset, Message, load_chat
from adapters.errors import MalformedData, OutputExists
from adapters.manifest import CONFIG, MANIFEST, WEIGHTS, BaseModel, Manifest, base_fingerprint, content_version
from adapters.recipe import Recipe, load_recipe
from adapters.scoring import format_scores

_LIBRARIES = ("torch", "transformers", "peft", "trl")
_QUESTIONS_AT_ONCE = 10


def train(recipe_path: Path, base_dir: Path, out: Path, *, command: str, console: Console) -> Manifest:
    """Train `recipe_path` (recipe.toml, or the folder it is in) on the checkpoint in `base_dir`.

    `out` is the adapter folder to create: complete, or not there at all. `command` is recorded so that the run can be
    repeated. Raises AdapterError.
    """
    recipe_path = recipe_path / "recipe.toml" if recipe_path.is_dir() else recipe_path
    recipe = load_recipe(recipe_path)
    data = load_chat(recipe_path.parent / recipe.data, last="assistant")
    heldout = load_chat(recipe_path.parent / recipe.heldout, last="user")
    if out.exists():
        raise OutputExists(f"{out} already exists: remove it or name another folder")
    base = base_fingerprint(base_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        with _quiet(), _progress(console) as progress:
            tokenizer = AutoTokenizer.from_pretrained(base_dir, local_files_only=True)
            _refuse_too_long(data, recipe.max_length, tokenizer)
            run = _Run(recipe, tokenizer, progress, scratch / "trainer")
            model = _fit(run, base_dir, data)
            _round_to_bfloat16(model)
            answers = _answer(run, model, heldout, "adapter answers")
            with model.disable_adapter():
                plain = _answer(run, model, heldout, "base answers")
        folder = scratch / "adapter"
        folder.mkdir()
        _write_weights(model, base, folder)
        manifest = Manifest(
            name=recipe.name,
            version=content_version(folder),
            base_model=base.name,
            base_sha256=base.sha256,
            data_sha256=data.sha256,
            recipe=asdict(recipe),
            command=command,
            seed=recipe.seed,
            scores=format_scores(recipe.format, answers, plain),
            libraries={name: version(name) for name in _LIBRARIES},
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        )
        (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
        folder.rename(out)
        return manifest
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class _Run:
    """What every stage of one training run needs; `scratch` is for the trainer's own files."""

    recipe: Recipe
    tokenizer: Any
    progress: Progress
    scratch: Path


def _fit(run: _Run, base_dir: Path, data: Dataset) -> Any:
    """The trained peft model, in evaluation mode."""
    recipe = run.recipe
    model = AutoModelForCausalLM.from_pretrained(base_dir, dtype=getattr(torch, recipe.dtype), local_files_only=True)
    rows = [
        {"prompt": _as_dicts(example.messages[:-1]), "completion": _as_dicts(example.messages[-1:])}
        for example in data.examples
    ]
    lora = LoraConfig(r=recipe.r, lora_alpha=recipe.alpha, target_modules=recipe.target_modules, task_type="CAUSAL_LM")
    settings = SFTConfig(
        output_dir=str(run.scratch),
        num_train_epochs=recipe.epochs,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_length=recipe.max_length,
        completion_only_loss=True,
        # Batches of like lengths: a third of the time would go into padding otherwise.
        train_sampling_strategy="group_by_length",
        seed=recipe.seed,
        bf16=False,
        gradient_checkpointing=False,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    trainer: Any = SFTTrainer(
        model=model,
        args=settings,
        train_dataset=datasets.Dataset.from_list(rows),
        processing_class=run.tokenizer,
        peft_config=lora,
        callbacks=[_ShowLoss(run.progress)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    model = trainer.model
    model.eval()
    return model


class _ShowLoss(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("training", total=None, note="")

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # their signature
        self._progress.update(self._task, completed=state.global_step, total=state.max_steps)

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # their signature
        if "loss" in state.log_history[-1]:
            self._progress.update(self._task, note=f"loss {state.log_history[-1]['loss']:.3f}")


def _round_to_bfloat16(model: Any) -> None:
    # What is scored must be what is saved, and bfloat16 is what is saved.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.bfloat16())


@torch.inference_mode()
def _answer(run: _Run, model: Any, questions: Dataset, label: str) -> list[str]:
    """Greedy answers of at most `max_answer` tokens, in the order of the questions."""
    run.tokenizer.padding_side = "left"
    prompts = [_as_dicts(example.messages) for example in questions.examples]
    answers: list[str] = []
    task = run.progress.add_task(label, total=len(prompts), note="")
    for start in range(0, len(prompts), _QUESTIONS_AT_ONCE):
        batch = prompts[start : start + _QUESTIONS_AT_ONCE]
        inputs = run.tokenizer.apply_chat_template(
            batch, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        output = model.generate(**inputs, max_new_tokens=run.recipe.max_answer, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        answers.extend(run.tokenizer.batch_decode(new, skip_special_tokens=True))
        run.progress.update(task, completed=len(answers))
    return answers


def _write_weights(model: Any, base: BaseModel, folder: Path) -> None:
    """Equal adapters become equal bytes, with no path of this machine inside."""
    state = get_peft_model_state_dict(model, save_embedding_layers=False)
    tensors = {name: tensor.to("cpu", torch.bfloat16).contiguous() for name, tensor in state.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    # safetensors makes it private; an adapter is as readable as its config.
    (folder / WEIGHTS).chmod(0o644)
    config = model.peft_config["default"].to_dict()
    config |= {"base_model_name_or_path": base.name, "inference_mode": True}
    text = json.dumps(config, indent=2, sort_keys=True, default=sorted)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")


def _refuse_too_long(data: Dataset, max_length: int, tokenizer: Any) -> None:
    # A cut example would teach the model to stop in the middle of an answer.
    lengths = [
        (example.line, len(tokenizer.apply_chat_template(_as_dicts(example.messages), return_dict=True)["input_ids"]))
        for example in data.examples
    ]
    too_long = [(line, f"{n} tokens, max_length is {max_length}") for line, n in lengths if n > max_length]
    if too_long:
        raise MalformedData(data.path, too_long)


def _as_dicts(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [message.as_dict() for message in messages]


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, TextColumn("left"), TimeRemainingColumn(), console=console) as progress:
        yield progress


@contextmanager
def _quiet() -> Iterator[None]:
    """The progress bar is the output; the libraries' own bars and advice are not for this program's user."""
    bars: Any = transformers.utils.logging
    datasets.disable_progress_bars()
    bars.disable_progress_bar()
    loggers = [logging.getLogger(name) for name in ("transformers", "trl", "peft", "datasets", "accelerate")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        datasets.enable_progress_bars()
        bars.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
