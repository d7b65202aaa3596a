"""Trains a LoRA adapter from a plan, from top to bottom: claim, train, round, score, write.

Only assistant turns of weight 1 carry loss. The same seed on the same machine gives the same adapter version, whether
or not the run was paused or killed on the way: it goes on from its last checkpoint (checkpoints.py). Importing this
module imports torch and trl; import it where it is used.
"""

import datetime
import json
import logging
import math
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import datasets  # type: ignore[import-untyped]  # it ships no types
import torch
import transformers
from peft import LoraConfig, get_peft_model_state_dict
from rich.console import Console
from safetensors.torch import save_file
from transformers import PrinterCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer

from adapters.checkpoints import Checkpoints, Stopper
from adapters.dataset import Dataset
from adapters.encoding import Encoder, as_dicts
from adapters.errors import MalformedData, OutputExists
from adapters.loading import device_id, load_base, refuse_unavailable
from adapters.manifest import CONFIG, MANIFEST, WEIGHTS, BaseModel, Manifest, Score, content_version
from adapters.plan import Plan
from adapters.progress import Reporter
from adapters.runs import RunFolder, Schedule, locked
from adapters.scoring import format_scores
from adapters.speed import Machine, Speed, remember

_QUESTIONS_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class _Run:
    """What every stage of one training run needs."""

    plan: Plan
    encoder: Encoder
    folder: RunFolder
    reporter: Reporter
    stopper: Stopper
    schedule: Schedule


def train(
    plan: Plan, out: Path, machine: Machine, *, command: str, console: Console, schedule: Schedule | None = None
) -> Manifest:
    """Train `plan` into `out`, the adapter folder to create: complete, or not there at all.

    If this very plan was trained into `out` before, nothing is done; if it was paused or killed, it goes on.
    `command` is recorded so that the run can be repeated. Raises AdapterError; TrainingPaused and TrainingCancelled
    when the run was asked to stop, by a signal or through its RunFolder.
    """
    folder = RunFolder(out)
    if folder.finished(plan.fingerprint):
        return _finished(folder)
    if out.exists():
        raise OutputExists(f"{out} already exists: remove it or name another folder")
    refuse_unavailable(plan.recipe)
    with ExitStack() as held:
        held.enter_context(folder.held())
        if folder.finished(plan.fingerprint):
            return _finished(folder)  # by another process, just now
        held.enter_context(locked(machine.state / f"{device_id()}.lock", f"a training on {machine.device} is running"))
        folder.open(plan.fingerprint)
        reporter = Reporter(folder.journal, console, machine.price)
        stopper = held.enter_context(Stopper(folder, reporter).listening())
        reporter.state("preparing")
        stopper.stop_if_asked()
        with _quiet(), reporter.shown():
            run = _Run(plan, Encoder(plan.base_dir), folder, reporter, stopper, schedule or Schedule())
            model = _fit(run)
            _round_to_bfloat16(model)
            manifest = _write(run, model, _score(run, model), command)
        if speed := _speed(run):
            remember(machine, plan.base.sha256, speed)
        folder.scratch.rename(out)
        reporter.state("succeeded", version=manifest.version, eta_s=0.0)
        folder.clear()
        return manifest


def _finished(folder: RunFolder) -> Manifest:
    """What an earlier call wrote; it may have been killed just before it could say so."""
    manifest, last = Manifest.read(folder.out), folder.journal.last()
    if last is not None and last.state != "succeeded":
        folder.journal.append(replace(last, state="succeeded", version=manifest.version, eta_s=0.0))
    folder.clear()
    return manifest


def measure_speed(plan: Plan, machine: Machine, console: Console, steps: int = 5) -> None:
    """Train a few steps and remember nothing but how fast they were. Raises AdapterError."""
    probe = RunFolder(machine.state / "probe")
    refuse_unavailable(plan.recipe)
    with locked(machine.state / f"{device_id()}.lock", f"a training on {machine.device} is running"):
        shutil.rmtree(probe.path, ignore_errors=True)
        try:
            reporter = Reporter(probe.journal, console, machine.price)
            schedule = Schedule(every_s=math.inf, max_steps=steps + 1)
            with _quiet(), reporter.shown():
                run = _Run(plan, Encoder(plan.base_dir), probe, reporter, Stopper(probe, reporter), schedule)
                _fit(run)
            if speed := _speed(run):
                remember(machine, plan.base.sha256, speed)
        finally:
            shutil.rmtree(probe.path, ignore_errors=True)


def _fit(run: _Run) -> Any:
    """The trained peft model, in evaluation mode."""
    recipe = run.plan.recipe
    rows = _encoded(run, run.plan.train)
    checkpoints = Checkpoints(run.folder, run.reporter, run.stopper, run.schedule)
    trainer: Any = SFTTrainer(
        model=load_base(run.plan),
        args=_settings(run),
        train_dataset=rows,
        eval_dataset=_encoded(run, run.plan.validation) if run.plan.validation else None,
        processing_class=run.encoder.tokenizer,
        peft_config=LoraConfig(
            r=recipe.r, lora_alpha=recipe.alpha, target_modules=recipe.target_modules, task_type="CAUSAL_LM"
        ),
        callbacks=[checkpoints],
    )
    trainer.remove_callback(PrinterCallback)
    if checkpoints.ended():
        trainer.model.load_adapter(str(checkpoints.last), "default", is_trainable=True)
    else:
        trainer.train(resume_from_checkpoint=str(checkpoints.last) if checkpoints.last else None)
    run.stopper.stop_if_asked()
    if run.plan.validation:
        run.reporter.state("scoring", valid_loss=trainer.evaluate()["eval_loss"])
    model = trainer.model
    model.eval()
    return model


def _settings(run: _Run) -> SFTConfig:
    recipe = run.plan.recipe
    return SFTConfig(
        output_dir=str(run.folder.checkpoints),
        num_train_epochs=recipe.epochs,
        max_steps=run.schedule.max_steps,
        per_device_train_batch_size=recipe.batch_size,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.05,
        max_length=recipe.max_length,
        packing=recipe.packing,
        eval_packing=False,
        # Batches of like lengths: a third of the time would go into padding otherwise.
        train_sampling_strategy="group_by_length",
        seed=recipe.seed,
        bf16=recipe.dtype == "bfloat16" and torch.cuda.is_available(),
        gradient_checkpointing=False,
        logging_steps=1,
        # checkpoints.py says when, and removes old ones: transformers would rather keep a broken one than a whole one.
        save_strategy="no",
        eval_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _encoded(run: _Run, data: Dataset) -> Any:
    """Ids and labels, which the trainer takes as they are. A cut example would teach to stop in the middle."""
    encoded, problems = run.encoder.encode_all(data)
    longest = run.plan.recipe.max_length
    problems += [
        (line, f"{len(sequence.ids)} tokens, max_length is {longest}")
        for line, sequence in encoded
        if len(sequence.ids) > longest
    ]
    if problems:
        raise MalformedData(data.path, sorted(problems))
    return datasets.Dataset.from_list([{"input_ids": each.ids, "labels": each.labels} for _, each in encoded])


def _round_to_bfloat16(model: Any) -> None:
    # What is scored must be what is saved, and bfloat16 is what is saved.
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.copy_(parameter.bfloat16())


def _score(run: _Run, model: Any) -> tuple[Score, ...]:
    heldout, pattern = run.plan.heldout, run.plan.recipe.format
    if heldout is None or pattern is None:
        return ()
    run.reporter.state("scoring")
    answers = _answer(run, model, heldout, "adapter answers")
    with model.disable_adapter():
        plain = _answer(run, model, heldout, "base answers")
    return format_scores(pattern, answers, plain)


@torch.inference_mode()
def _answer(run: _Run, model: Any, questions: Dataset, label: str) -> list[str]:
    """Greedy answers of at most `max_answer` tokens, in the order of the questions."""
    tokenizer: Any = run.encoder.tokenizer
    tokenizer.padding_side = "left"
    prompts = [as_dicts(example.messages) for example in questions.examples]
    answers: list[str] = []
    for start in range(0, len(prompts), _QUESTIONS_AT_ONCE):
        run.stopper.stop_if_asked()
        batch = prompts[start : start + _QUESTIONS_AT_ONCE]
        inputs = tokenizer.apply_chat_template(
            batch, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        output = model.generate(**inputs, max_new_tokens=run.plan.recipe.max_answer, do_sample=False)
        new = output[:, inputs["input_ids"].shape[1] :]
        answers.extend(tokenizer.batch_decode(new, skip_special_tokens=True))
        run.reporter.advance(label, len(answers), len(prompts))
    return answers


def _write(run: _Run, model: Any, scores: tuple[Score, ...], command: str) -> Manifest:
    """The complete adapter folder, in the run's scratch."""
    plan, folder = run.plan, run.folder.scratch
    folder.mkdir()
    _write_weights(model, plan.base, folder)
    manifest = Manifest(
        name=plan.recipe.name,
        version=content_version(folder),
        base_model=plan.base.name,
        base_sha256=plan.base.sha256,
        data_sha256=plan.train.sha256,
        recipe=plan.recipe.stated(),
        command=command,
        seed=plan.recipe.seed,
        scores=scores,
        libraries=plan.libraries,
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        data=plan.data,
    )
    (folder / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
    return manifest


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


def _speed(run: _Run) -> Speed | None:
    recipe, now = run.plan.recipe, run.reporter.now
    if now.tokens_per_s is None:
        return None
    return Speed(
        tokens_per_s=now.tokens_per_s,
        steps=run.reporter.steps_timed,
        measured=datetime.datetime.now(datetime.UTC).date().isoformat(),
        batch_size=recipe.batch_size,
        dtype=recipe.dtype,
        packing=recipe.packing,
        quantization=recipe.quantization,
    )


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
