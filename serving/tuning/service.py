"""What the routes use of fine-tuning: OpenAI's calls on jobs, answered from the catalogue and the runs' journals."""

import asyncio
import os
import re
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.progress import Event
from serving.auth import Caller
from serving.engine.device import Device
from serving.errors import BadRequest, Conflict
from serving.sections import Settings
from serving.stores.database import Database
from serving.stores.files import TUNING_PURPOSE, Files
from serving.stores.paging import Page, Wire
from serving.tuning.job import Job, State, checkpoint_wire, event_wire, parse
from serving.tuning.jobs import Jobs
from serving.tuning.recipe import recipe_of
from serving.tuning.runner import Command, Runner, Trainer

Clock = Callable[[], float]
_WHOLE_GPU = 0.95  # of its memory: the driver and both processes' contexts need the rest


@dataclass(frozen=True, slots=True)
class Host:
    """Where jobs are trained: the base model's name, the command that trains (see `train_command`), and what installs
    an adapter folder and returns the model's name."""

    base: str
    device: Device
    command: Command
    publish: Callable[[Path], Awaitable[str]]


class Tuning:
    """Every call is an operator's and sees the jobs of the operator's tenant."""

    def __init__(self, jobs: Jobs, files: Files, runner: Runner, settings: Settings, host: Host, clock: Clock) -> None:
        self._jobs, self._files, self._runner = jobs, files, runner
        self._settings, self._host, self._clock = settings, host, clock

    async def create(self, caller: Caller, fields: Mapping[str, Any]) -> Wire:
        """Queue a job. Raises BadRequest, NotFound for a file, NotOffered, Conflict where nothing can be trained."""
        now, wanted = self._clock(), parse(fields, secrets.randbelow(2**31))
        if wanted.model != self._host.base:
            base = self._host.base
            raise BadRequest(f"`model` must be {base!r}: adapters are trained on the base model here", param="model")
        refuse_crowded_gpu(self._settings, self._host.device)
        for name in ("training_file", "validation_file"):
            id = getattr(wanted, name)
            if id is not None and (await self._files.find(caller.tenant, id, now)).purpose != TUNING_PURPOSE:
                raise BadRequest(f"`{name}` must have been uploaded with purpose {TUNING_PURPOSE!r}", param=name)
        job = await self._jobs.create(caller.tenant, wanted, now)
        self._runner.wake()
        return job.wire(())

    async def page(self, caller: Caller, page: Page) -> Wire:
        """The tenant's jobs."""
        return page.of([await self._wire(job) for job in await self._jobs.of_tenant(caller.tenant)])

    async def retrieve(self, caller: Caller, id: str) -> Wire:
        """One job. Raises NotFound."""
        return await self._wire(await self._jobs.find(caller.tenant, id))

    async def cancel(self, caller: Caller, id: str) -> Wire:
        """Give it up: its checkpoints are removed. Raises NotFound, Conflict if it has ended."""
        job = await self._jobs.find(caller.tenant, id)
        if await self._jobs.cancel_idle(job, self._clock()):
            await asyncio.to_thread(self._runner.tidy, job.id)
        else:
            await self._runner.cancel(await self._expect(caller, id, "cancel", "running"))
        return await self.retrieve(caller, id)

    async def pause(self, caller: Caller, id: str) -> Wire:
        """Stop it at its next step; `resume` goes on from there. Raises NotFound, Conflict."""
        job = await self._jobs.find(caller.tenant, id)
        if not await self._jobs.move(job, "paused", among=("queued",)):
            await self._runner.pause(await self._expect(caller, id, "pause", "running"))
        return await self.retrieve(caller, id)

    async def resume(self, caller: Caller, id: str) -> Wire:
        """Queue a paused job again. Raises NotFound, Conflict."""
        job = await self._jobs.find(caller.tenant, id)
        if not await self._jobs.move(job, "queued", among=("paused",)):
            await self._expect(caller, id, "resume", "paused")
        self._runner.wake()
        return await self.retrieve(caller, id)

    async def events(self, caller: Caller, id: str, page: Page) -> Wire:
        """What has happened to a job. Raises NotFound."""
        job = await self._jobs.find(caller.tenant, id)
        return page.of(event_wire(job.id, number, event) for number, event in enumerate(await self._journal(job)))

    async def checkpoints(self, caller: Caller, id: str, page: Page) -> Wire:
        """The checkpoints that a job has written. Raises NotFound."""
        job = await self._jobs.find(caller.tenant, id)
        # After a kill the steps since the last checkpoint are taken again.
        written = {event.checkpoint: event for event in await self._journal(job) if event.checkpoint is not None}
        return page.of(checkpoint_wire(job, event) for _, event in sorted(written.items()))

    async def _wire(self, job: Job) -> Wire:
        return job.wire(await self._journal(job))

    async def _journal(self, job: Job) -> tuple[Event, ...]:
        return await asyncio.to_thread(self._runner.run_of(job).journal.events)

    async def _expect(self, caller: Caller, id: str, what: str, state: State) -> Job:
        job = await self._jobs.find(caller.tenant, id)  # as it is now
        if job.state != state:
            raise Conflict(f"{job.id} is {job.state}; only a {state} job can {what}")
        return job


def refuse_crowded_gpu(settings: Settings, device: Device) -> None:
    """Raises Conflict if training would take the memory that the engine on the same GPU has reserved."""
    engine, share = settings.engine, settings.tuning.gpu_memory_share
    if device.kind != "gpu" or engine.url is not None or engine.kind != "vllm":
        return
    if engine.gpu_memory_utilization is None or not 0 < share <= _WHOLE_GPU - engine.gpu_memory_utilization:
        raise Conflict(
            "the engine has the GPU's memory: to train beside it, set engine.gpu_memory_utilization (0.5, say) and "
            f"tuning.gpu_memory_share so that both together are at most {_WHOLE_GPU}; or train elsewhere with "
            "`breakeven train` and install the adapter"
        )


def train_command(checkpoint: Callable[[], Awaitable[Path]]) -> Command:
    """`breakeven train` on the base model whose folder `checkpoint` finds."""

    async def command(recipe: Path, out: Path) -> tuple[str, ...]:
        # The gateway's own configuration, as far as a training is concerned, comes through the environment.
        where = ("--base", str(await checkpoint()), "--out", str(out), "--no-install", "--config", os.devnull)
        return (sys.executable, "-m", "breakeven", "train", str(recipe), *where)

    return command


@asynccontextmanager
async def open_tuning(
    database: Database,
    files: Files,
    settings: Settings,
    host: Host,
    clock: Clock,
    after: "asyncio.Future[None] | None" = None,
) -> AsyncIterator[Tuning]:
    """Goes on with what an earlier gateway left once `after` is done, and works in the background until the end."""
    jobs = Jobs(database)
    trainer = Trainer(
        command=host.command,
        environment=_environment(settings),
        publish=host.publish,
        recipe=lambda job: recipe_of(_adapter_name(job), job.wanted, settings.tuning, gpu=host.device.kind == "gpu"),
    )
    runner = Runner(jobs, files, settings.home / "tuning", trainer, clock)
    runner.start(after)
    try:
        yield Tuning(jobs, files, runner, settings, host, clock)
    finally:
        await runner.stop()


def _environment(settings: Settings) -> dict[str, str]:
    stated = {"BREAKEVEN_HOME": str(settings.home.resolve())}
    if settings.tuning.gpu_memory_share:
        stated["BREAKEVEN_TUNING__GPU_MEMORY_SHARE"] = str(settings.tuning.gpu_memory_share)
    if settings.cost.usd_per_hour is not None:
        stated["BREAKEVEN_COST__USD_PER_HOUR"] = str(settings.cost.usd_per_hour)
    if settings.cost.source is not None:
        stated["BREAKEVEN_COST__SOURCE"] = settings.cost.source
    return stated


def _adapter_name(job: Job) -> str:
    """Jobs with the same suffix make versions of the same adapter."""
    named = re.sub(r"[^a-z0-9]+", "-", (job.wanted.suffix or "").lower()).strip("-")
    return named or f"tuned-{job.id.removeprefix('ftjob-')[:8]}"
