"""A fine-tuning job: what was asked for, where it stands, and how OpenAI's API shows that."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from adapters.progress import Event
from serving.errors import BadRequest, NotOffered
from serving.stores.fields import metadata, only, text
from serving.stores.paging import Wire

State = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
ENDED: frozenset[str] = frozenset({"succeeded", "failed", "cancelled"})
_FIELDS = (
    *("model", "training_file", "validation_file", "hyperparameters", "method", "suffix", "seed", "metadata"),
    "integrations",
)
_HYPERPARAMETERS = ("n_epochs", "batch_size", "learning_rate_multiplier")
_LONGEST_SUFFIX = 40


@dataclass(frozen=True, slots=True)
class Hyperparameters:
    """None is OpenAI's "auto": the value of the `tuning` settings. The multiplier is of their learning rate."""

    n_epochs: int | None = None
    batch_size: int | None = None
    learning_rate_multiplier: float | None = None

    def wire(self) -> Wire:
        """OpenAI's object."""
        values = {name: getattr(self, name) for name in _HYPERPARAMETERS}
        return {name: "auto" if value is None else value for name, value in values.items()}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a client asked for, checked in itself: whether files and model exist is not known yet."""

    model: str
    training_file: str
    validation_file: str | None
    suffix: str | None
    seed: int
    hyperparameters: Hyperparameters
    metadata: Mapping[str, str]

    def dump(self) -> str:
        """As JSON; `load` is its inverse."""
        stated = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(stated | {"hyperparameters": self.hyperparameters.wire()})

    @classmethod
    def load(cls, stated: str) -> "Wanted":
        """From what `dump` gave."""
        values = json.loads(stated)
        return cls(**values | {"hyperparameters": _hyperparameters(values["hyperparameters"])})


@dataclass(frozen=True, slots=True)
class Job:
    """One job. Times are Unix seconds. `error` is the trainer's own line; `version` is `name@hash` when succeeded."""

    id: str
    tenant: str
    wanted: Wanted
    state: State
    created_at: float
    finished_at: float | None
    version: str | None
    error: str | None

    def wire(self, journal: Sequence[Event]) -> Wire:
        """OpenAI's object; `journal` is that of its run."""
        wanted, ended, last = self.wanted, self.state in ENDED, journal[-1] if journal else None
        left = last.eta_s if last is not None and self.state == "running" else None
        return {
            "id": self.id,
            "object": "fine_tuning.job",
            "created_at": int(self.created_at),
            "finished_at": None if self.finished_at is None else int(self.finished_at),
            "estimated_finish": None if left is None or last is None else int(at(last) + left),
            "status": self._status(last),
            "error": _error(self.error) if self.state == "failed" else None,
            "model": wanted.model,
            "fine_tuned_model": self.version,
            "organization_id": self.tenant,
            "training_file": wanted.training_file,
            "validation_file": wanted.validation_file,
            "result_files": [],
            "seed": wanted.seed,
            "trained_tokens": _trained(journal) if ended and journal else None,
            "hyperparameters": wanted.hyperparameters.wire(),
            "method": {"type": "supervised", "supervised": {"hyperparameters": wanted.hyperparameters.wire()}},
            "metadata": dict(wanted.metadata),
            "integrations": [],
            "breakeven": None if last is None else _progress(last),
        }

    def _status(self, last: Event | None) -> str:
        preparing = self.state == "running" and (last is None or last.state == "preparing")
        return "validating_files" if preparing else self.state


def parse(fields: Mapping[str, Any], seed: int) -> Wanted:
    """The body of a create call; `seed` is used if it names none. Raises BadRequest, NotOffered."""
    only(fields, *_FIELDS)
    for name in ("model", "training_file"):
        if not isinstance(fields.get(name), str):
            raise BadRequest(f"`{name}` must be a string", param=name)
    if fields.get("integrations"):
        raise NotOffered("integrations are not offered: the job's events carry its metrics", param="integrations")
    suffix = text(fields, "suffix", _LONGEST_SUFFIX)
    chosen = fields.get("seed")
    if chosen is not None and (isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen < 2**31):
        raise BadRequest("`seed` must be a whole number from 0 to 2147483647", param="seed")
    return Wanted(
        fields["model"],
        fields["training_file"],
        text(fields, "validation_file"),
        suffix,
        seed if chosen is None else chosen,
        _hyperparameters(_supervised(fields.get("method")) or fields.get("hyperparameters") or {}),
        metadata(fields.get("metadata")),
    )


def at(event: Event) -> float:
    """When it happened, in Unix seconds."""
    return datetime.fromisoformat(event.time).timestamp()


def event_wire(job: str, number: int, event: Event) -> Wire:
    """A line of the journal as OpenAI's event object."""
    metrics = {"step": event.step, "total_steps": event.steps, "train_loss": event.loss, "valid_loss": event.valid_loss}
    training = event.state == "training" and event.loss is not None
    words = f"Step {event.step}/{event.steps}: training loss={event.loss:.4f}" if training else _words(event)
    return {
        "id": f"ftevent-{job.removeprefix('ftjob-')}-{number:06}",
        "object": "fine_tuning.job.event",
        "created_at": int(at(event)),
        "level": "error" if event.state == "failed" else "info",
        "type": "metrics" if training else "message",
        "message": words,
        "data": {name: value for name, value in metrics.items() if value is not None} if training else {},
    }


def checkpoint_wire(job: Job, event: Event) -> Wire:
    """A checkpoint as OpenAI's object. It is what a killed run goes on from; only the end of a job can be served."""
    step, short = event.checkpoint or 0, job.id.removeprefix("ftjob-")
    return {
        "id": f"ftckpt-{short}-{step}",
        "object": "fine_tuning.job.checkpoint",
        "created_at": int(at(event)),
        "fine_tuned_model_checkpoint": f"{job.id}:ckpt-step-{step}",
        "fine_tuning_job_id": job.id,
        "step_number": step,
        "metrics": {"step": step, "train_loss": event.loss, "valid_loss": event.valid_loss},
    }


def _supervised(method: Any) -> Mapping[str, Any] | None:
    if method is None:
        return None
    if not isinstance(method, dict) or method.get("type") != "supervised":
        raise NotOffered("only supervised fine-tuning is offered: a LoRA adapter on chat examples", param="method")
    inner = method.get("supervised") or {}
    return inner.get("hyperparameters") if isinstance(inner, dict) else None


def _hyperparameters(stated: Any) -> Hyperparameters:
    if not isinstance(stated, dict):
        raise BadRequest("`hyperparameters` must be an object", param="hyperparameters")
    only(stated, *_HYPERPARAMETERS)
    values = {name: None if value == "auto" else value for name, value in stated.items()}
    for name in ("n_epochs", "batch_size"):
        value = values.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 256):
            raise BadRequest(
                f'`{name}` must be "auto" or a whole number from 1 to 256', param=f"hyperparameters.{name}"
            )
    rate = values.get("learning_rate_multiplier")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 100):
        name = "hyperparameters.learning_rate_multiplier"
        raise BadRequest('`learning_rate_multiplier` must be "auto" or a number above 0, at most 100', param=name)
    return Hyperparameters(**values)


def _trained(journal: Sequence[Event]) -> int:
    """Of all attempts: each counts its own."""
    tokens = [event.tokens for event in journal]
    return sum(now for now, later in zip(tokens, [*tokens[1:], 0], strict=True) if later < now)


def _error(message: str | None) -> Wire:
    return {"code": "training_failed", "message": message or "the training failed", "param": None}


def _progress(last: Event) -> Wire:
    return {
        "step": last.step,
        "steps": last.steps,
        "tokens_per_s": last.tokens_per_s,
        "seconds": last.seconds,
        "usd": last.usd,
    }


def _words(event: Event) -> str:
    said = {
        "preparing": "Validating the files",
        "training": "Fine-tuning has begun",
        "scoring": "Scoring the adapter",
        "paused": f"Paused at step {event.step} of {event.steps}",
        "cancelled": "The job was cancelled",
        "succeeded": f"The job has succeeded: {event.version}",
        "failed": event.error or "The training failed",
    }
    return said[event.state]
