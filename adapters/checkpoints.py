"""Lets a training be stopped anywhere and go on as if nothing had been: checkpoints, and requests to stop.

transformers restores weights, optimizer and schedule to the bit, but not the order of the examples of an epoch that
it resumes in the middle: that order is drawn from torch's random state when the epoch begins. So each checkpoint keeps
that state, too, and a resumed epoch begins from it. A checkpoint counts once its last file is there.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from transformers import TrainerCallback, TrainerState

from adapters.errors import TrainingCancelled, TrainingPaused
from adapters.memory import Spare
from adapters.progress import Reporter
from adapters.runs import COMPLETE, RunFolder, Schedule, StopRequest

_RANDOM_STATE = "epoch_random_state.pt"


class Stopper:
    """Whether somebody wants this run to stop: SIGTERM and Ctrl-C pause it, and so may a file in its folder."""

    def __init__(self, folder: RunFolder, reporter: Reporter) -> None:
        self._folder = folder
        self._reporter = reporter
        self._signalled = False

    @contextmanager
    def listening(self) -> Iterator["Stopper"]:
        """Turns signals into requests meanwhile, and says in the journal how the run ended if it ended badly."""
        before = {}
        if threading.current_thread() is threading.main_thread():
            before = {which: signal.signal(which, self._heard) for which in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield self
        except TrainingPaused:
            self._reporter.state("paused", eta_s=None)
            raise
        except TrainingCancelled:
            self._folder.clear()
            self._reporter.state("cancelled", eta_s=None)
            raise
        except BaseException as error:
            self._reporter.state("failed", eta_s=None, error=str(error) or type(error).__name__)
            raise
        finally:
            for which, handler in before.items():
                signal.signal(which, handler)

    def requested(self) -> StopRequest | None:
        """What was asked for, if anything."""
        return self._folder.requested() or ("pause" if self._signalled else None)

    def stop_if_asked(self) -> None:
        """Raises TrainingPaused or TrainingCancelled."""
        match self.requested():
            case "cancel":
                raise TrainingCancelled("the training was cancelled; its checkpoints are removed")
            case "pause":
                self._folder.forget_request()  # or the next run would pause, too
                now = self._reporter.now
                raise TrainingPaused(
                    f"paused at step {now.step} of {now.steps}: the same command goes on from its checkpoint; "
                    f"to give it up, remove {self._folder.path}"
                )

    def _heard(self, which: int, _frame: FrameType | None) -> None:
        self._signalled = True
        # Whoever asks twice does not want to wait for a checkpoint.
        signal.signal(which, signal.default_int_handler if which == signal.SIGINT else signal.SIG_DFL)


class Checkpoints(TrainerCallback):
    """Decides at each step whether to save or to stop, and reports it."""

    def __init__(self, folder: RunFolder, reporter: Reporter, stopper: Stopper, schedule: Schedule) -> None:
        self.last = folder.checkpoint()
        self._folder = folder
        self._reporter = reporter
        self._stopper = stopper
        self._schedule = schedule
        self._saved_at, self._saved_step = 0.0, 0
        self._epoch_state: torch.Tensor | None = None
        self._spare = Spare()

    def ended(self) -> bool:
        """Whether the last checkpoint is that of the last step; transformers would train one more."""
        if self.last is None:
            return False
        state = TrainerState.load_from_json(str(self.last / "trainer_state.json"))
        return bool(state.global_step >= state.max_steps)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # their signature
        """Count from here."""
        self._saved_at, self._saved_step = time.monotonic(), state.global_step

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # their signature
        """Draw the order of the examples as it was drawn before the interruption."""
        if self.last is not None and self._epoch_state is None:
            kept = torch.load(self.last / _RANDOM_STATE, weights_only=True)
            mid_epoch = state.global_step % len(kwargs["train_dataloader"]) > 0
            torch.set_rng_state(kept["epoch" if mid_epoch else "now"])
        self._epoch_state = torch.get_rng_state()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # their signature
        """Save or stop, if it is time or somebody asked."""
        self._spare.give_back()
        wanted = self._stopper.requested()
        ended = state.global_step >= state.max_steps
        control.should_training_stop |= ended or wanted is not None
        control.should_save = wanted != "cancel" and (ended or wanted == "pause" or self._due(state.global_step))

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # their signature
        """Report the step."""
        logged = state.log_history[-1]
        if "loss" in logged:
            self._reporter.step(
                state.global_step,
                state.max_steps,
                epoch=round(state.epoch, 4),
                loss=logged["loss"],
                tokens=int(logged["num_tokens"]),
            )

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:  # noqa: ARG002  # their signature
        """Add what transformers leaves out, mark the checkpoint complete and drop the one before."""
        folder = self._folder.checkpoints / f"checkpoint-{state.global_step}"
        torch.save({"epoch": self._epoch_state, "now": torch.get_rng_state()}, folder / _RANDOM_STATE)
        # The disk may reorder what it is given: everything must be on it before the last file says so.
        for path in (*folder.iterdir(), folder):
            _to_disk(path)
        (folder / COMPLETE).touch()
        _to_disk(folder)
        self._folder.keep_only(folder)
        self._saved_at, self._saved_step = time.monotonic(), state.global_step
        self._reporter.state("training", checkpoint=state.global_step)

    def _due(self, step: int) -> bool:
        every = self._schedule.every_steps
        by_steps = every is not None and step - self._saved_step >= every
        return by_steps or time.monotonic() - self._saved_at >= self._schedule.every_s


def _to_disk(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
