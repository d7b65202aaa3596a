"""Runs queued jobs in child processes, one at a time: the trainer of the command line, followed through its journal.

The run's folder is the truth. A gateway that stops asks the trainer to pause; one that is killed leaves it working, and
the next gateway follows it or, if it died too, lets it go on from its checkpoint.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from adapters.progress import Event
from adapters.runs import EXIT_PAUSED, RunFolder
from serving.settings import child_environment
from serving.stores.files import Files
from serving.tuning.job import Job, State
from serving.tuning.jobs import Jobs
from serving.tuning.recipe import write_recipe

logger = logging.getLogger("breakeven")
_LOOK_S = 0.5
_ATTEMPTS = 3  # of a trainer that dies without a word: the machine may have been short of memory
_LAST_LINES = 5
_ADAPTER, _LOG, _PAUSING = "adapter", "trainer.log", "pause-asked"
_REFUSED = 1  # exit status of `breakeven train`: its line says why
_BUSY_S = 15.0
_SHARED_S = 10.0  # how often to look for what other gateways left
_PAUSE_S = 5.0  # after a fault of ours, so that it does not fill the log
_LEAVE_S = 30.0  # a trainer that takes longer to stop is left to itself; the next gateway finds it
_DATA = ("train.jsonl", "validation.jsonl")
# Takes the recipe's folder and the adapter folder to create.
Command = Callable[[Path, Path], Awaitable[Sequence[str]]]


@dataclass(frozen=True, slots=True)
class Trainer:
    """How jobs are trained. `command` runs with `environment` on top of ours; `publish` makes the adapter in a folder
    usable and returns the model's name."""

    command: Command
    environment: Mapping[str, str]
    publish: Callable[[Path], Awaitable[str]]
    recipe: Callable[[Job], dict[str, str | int | float]]


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a trainer ended, and its last words."""

    status: int
    words: str


class Runner:
    """Runs between `start` and `stop`."""

    def __init__(self, jobs: Jobs, files: Files, folder: Path, trainer: Trainer, clock: Callable[[], float]) -> None:
        self._jobs, self._files, self._folder, self._trainer = jobs, files, folder, trainer
        self._clock, self._waiting = clock, asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """There may be something to do."""
        self._waiting.set()

    def start(self, after: "asyncio.Future[None] | None" = None) -> None:
        """Goes on with what an earlier gateway left, as soon as `after` is done."""
        self.wake()
        self._task = asyncio.create_task(self._run_all(after))

    async def pause(self, job: Job) -> None:
        """Stop a running job at its next step."""
        await asyncio.to_thread(self._ask_to_pause, job)

    async def cancel(self, job: Job) -> None:
        """Give a running job up."""
        await asyncio.to_thread(self.run_of(job).request, "cancel")

    def tidy(self, id: str) -> None:
        """Of a job that has ended only the journal and the log are kept, and the adapter if there is one."""
        RunFolder(self._folder / id / _ADAPTER).clear()
        for name in _DATA:
            (self._folder / id / name).unlink(missing_ok=True)

    async def stop(self) -> None:
        """Pauses what runs, at its next step; the next gateway goes on with it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def run_of(self, job: Job) -> RunFolder:
        """Where the job's journal is, and where it can be asked to pause or to cancel."""
        return RunFolder(self._folder / job.id / _ADAPTER)

    async def _run_all(self, after: "asyncio.Future[None] | None") -> None:
        if after is not None:
            await asyncio.wait([after])
        swept = False
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._waiting.wait(), _SHARED_S if self._jobs.shared else None)
            self._waiting.clear()
            try:
                if not swept:
                    await self._sweep()
                    swept = True
                while (job := await self._jobs.take_next()) is not None:
                    try:
                        await self._run_or_fail(job)
                    finally:
                        await self._jobs.release(job)
            except Exception:
                logger.exception("the queue of fine-tuning jobs failed; trying again in %.0f s", _PAUSE_S)
                await asyncio.sleep(_PAUSE_S)
                self.wake()

    async def _sweep(self) -> None:
        """A gateway that was killed may not have come to tidying."""
        for id in await self._jobs.ended():
            await asyncio.to_thread(self.tidy, id)

    async def _run_or_fail(self, job: Job) -> None:
        try:
            await self._run(job)
        except Exception as error:
            logger.exception("fine-tuning job %s failed", job.id)
            await self._end(job, "failed", error=f"it could not be run: {error}")

    async def _end(self, job: Job, state: State, *, version: str | None = None, error: str = "") -> None:
        await self._jobs.end(job, state, self._clock(), version=version, error=error)
        await asyncio.to_thread(self.tidy, job.id)

    async def _run(self, job: Job) -> None:
        if not await self._jobs.move(job, "running", among=("queued", "running")):
            return
        run = self.run_of(job)
        before, ended = len(run.journal.events()), _Ended(0, "")
        if not run.running():
            try:
                await self._prepare(job)
            except FileNotFoundError:
                await self._end(job, "failed", error="its file was deleted; upload it again")
                return
            ended = await self._train(job, run)
        while run.running():  # noqa: ASYNC110  # an earlier gateway's: a process of which there is only the lock
            await asyncio.sleep(_LOOK_S)
        await self._conclude(job, run, run.journal.events()[before:], ended)

    async def _prepare(self, job: Job) -> None:
        # Copies: a file may be deleted while its job waits or is paused.
        folder = self._folder / job.id
        await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
        for name, id in zip(_DATA, (job.wanted.training_file, job.wanted.validation_file), strict=True):
            if id is not None and not (folder / name).exists():
                unfinished = folder / f"{name}.part"
                await asyncio.to_thread(unfinished.write_bytes, await self._files.read(id))
                unfinished.replace(folder / name)
        write_recipe(folder / "recipe.toml", self._trainer.recipe(job))

    async def _train(self, job: Job, run: RunFolder) -> _Ended:
        """Until the trainer has ended."""
        folder = self._folder / job.id
        command = await self._trainer.command(folder, run.out)
        with (folder / _LOG).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdout=log,
                stderr=log,
                env=child_environment(self._trainer.environment),
                start_new_session=True,  # Ctrl-C is for us: requests are answered to the end before it stops
            )
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                with suppress(ProcessLookupError):
                    process.terminate()  # it writes a checkpoint first
                with suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), _LEAVE_S)
                raise
        lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return _Ended(status, " ".join(lines[-_LAST_LINES:]).removeprefix("error: "))

    async def _conclude(self, job: Job, run: RunFolder, news: Sequence[Event], ended: _Ended) -> None:
        last = news[-1] if news else None
        state = None if last is None else last.state
        asked = self._folder / job.id / _PAUSING
        paused = asked.exists()
        asked.unlink(missing_ok=True)
        if run.out.is_dir():
            await self._publish(job, run.out)
        elif run.requested() == "cancel" or state == "cancelled":
            await self._end(job, "cancelled")
        elif state == "paused":
            # Without our asking it was a signal of somebody's who is probably stopping us too: then it goes on.
            if paused:
                await self._jobs.move(job, "paused", among=("running",))
        elif ended.status == EXIT_PAUSED:  # without having begun: somebody else trains on this device
            await asyncio.sleep(_BUSY_S)
        elif last is not None and state == "failed":
            await self._end(job, "failed", error=last.error or ended.words)
        elif ended.status == _REFUSED or await self._jobs.died(job) >= _ATTEMPTS:
            await self._end(job, "failed", error=ended.words or f"the trainer died (status {ended.status})")

    def _ask_to_pause(self, job: Job) -> None:
        # A file, because it may be another gateway that runs the job.
        asked = self._folder / job.id / _PAUSING
        asked.parent.mkdir(parents=True, exist_ok=True)
        asked.touch()
        self.run_of(job).request("pause")

    async def _publish(self, job: Job, adapter: Path) -> None:
        try:
            name = await self._trainer.publish(adapter)
        except Exception as error:
            logger.exception("the adapter of %s could not be installed", job.id)
            await self._end(job, "failed", error=f"trained, but it could not be installed: {error}")
        else:
            await self._end(job, "succeeded", version=name)
