"""Runs queued jobs in child processes, one at a time: the trainer of the command line, followed through its journal.

The run's folder is the truth. A gateway that stops asks the trainer to pause; one that is killed leaves it working, and
the next gateway follows it or, if it died too, lets it go on from its checkpoint.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.runs import RunFolder
from serving.settings import child_environment
from serving.stores.files import Files
from serving.tuning.job import Job
from serving.tuning.jobs import Jobs
from serving.tuning.recipe import write_recipe

logger = logging.getLogger("breakeven")
_LOOK_S = 0.5
_ATTEMPTS = 3  # of a trainer that dies without a word: the machine may have been short of memory
_LAST_LINES = 5
_ADAPTER, _LOG = "adapter", "trainer.log"
_REFUSED, _BUSY = 1, 75  # exit statuses of `breakeven train`: its line says why; somebody else trains on this device
_BUSY_S = 15.0
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

    def start(self) -> None:
        """Goes on with what an earlier gateway left."""
        self.wake()
        self._task = asyncio.create_task(self._run_all())

    async def stop(self) -> None:
        """Pauses what runs, at its next step; the next gateway goes on with it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def run_of(self, job: Job) -> RunFolder:
        """Where the job's journal is, and where it can be asked to pause or to cancel."""
        return RunFolder(self._folder / job.id / _ADAPTER)

    async def _run_all(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            while (job := await self._jobs.next()) is not None:
                try:
                    await self._run(job)
                except Exception as error:
                    logger.exception("fine-tuning job %s failed", job.id)
                    await self._jobs.end(job, "failed", self._clock(), error=f"it could not be run: {error}")

    async def _run(self, job: Job) -> None:
        if not await self._jobs.move(job, "running", among=("queued", "running")):
            return
        run, ended = self.run_of(job), _Ended(0, "")
        if not run.running():
            try:
                await asyncio.to_thread(self._prepare, job)
            except FileNotFoundError:
                await self._jobs.end(job, "failed", self._clock(), error="its file was deleted; upload it again")
                return
            ended = await self._train(job, run)
        while run.running():  # noqa: ASYNC110  # an earlier gateway's: a process of which there is only the lock
            await asyncio.sleep(_LOOK_S)
        await self._conclude(job, run, ended)

    def _prepare(self, job: Job) -> None:
        # Copies: a file may be deleted while its job waits or is paused.
        folder = self._folder / job.id
        folder.mkdir(parents=True, exist_ok=True)
        for name, id in (("train.jsonl", job.wanted.training_file), ("validation.jsonl", job.wanted.validation_file)):
            if id is not None and not (folder / name).exists():
                unfinished = folder / f"{name}.part"
                unfinished.write_bytes(self._files.path(id).read_bytes())
                unfinished.replace(folder / name)
        write_recipe(folder / "recipe.toml", self._trainer.recipe(job))

    async def _train(self, job: Job, run: RunFolder) -> "_Ended":
        """Until the trainer has ended."""
        folder = self._folder / job.id
        command = await self._trainer.command(folder, run.out)
        with (folder / _LOG).open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, env=child_environment(self._trainer.environment)
            )
            try:
                status = await process.wait()
            except asyncio.CancelledError:
                process.terminate()  # it writes a checkpoint first
                await process.wait()
                raise
        lines = (folder / _LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return _Ended(status, " ".join(lines[-_LAST_LINES:]).removeprefix("error: "))

    async def _conclude(self, job: Job, run: RunFolder, ended: "_Ended") -> None:
        last, now = run.journal.last(), self._clock()
        if run.out.is_dir():
            try:
                name = await self._trainer.publish(run.out)
            except Exception as error:
                logger.exception("the adapter of %s could not be installed", job.id)
                await self._jobs.end(job, "failed", now, error=f"trained, but it could not be installed: {error}")
            else:
                await self._jobs.end(job, "succeeded", now, version=name)
        elif run.requested() == "cancel" or (last is not None and last.state == "cancelled"):
            await self._jobs.end(job, "cancelled", now)
        elif last is not None and last.state == "paused":
            await self._jobs.move(job, "paused", among=("running",))
        elif ended.status == _BUSY:
            await asyncio.sleep(_BUSY_S)
        elif last is not None and last.state == "failed":
            await self._jobs.end(job, "failed", now, error=last.error or ended.words)
        elif ended.status == _REFUSED or await self._jobs.died(job) >= _ATTEMPTS:
            words = ended.words or f"the trainer died (status {ended.status})"
            await self._jobs.end(job, "failed", now, error=words)
