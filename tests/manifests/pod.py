"""One pod, as a kubelet runs it: init containers, probes, restarts with back-off, preStop, SIGTERM, SIGKILL at last."""

import asyncio
import contextlib
import ctypes
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.k8s.manifests import Manifest, Workload, environment
from tests.manifests.machine import Launch, Machine
from tests.manifests.probes import answers

_BACKOFF_S = 10.0
_MOST_BACKOFF_S = 300.0
_PR_SET_PDEATHSIG = 1
# A machine with fewer cores than pods may need longer for the same work, and nothing is divided by the pace in it.
_STARVED_S = 60.0


@dataclass(eq=False)
class Pod:
    """`changed` is called when it becomes ready or not. Seconds in manifests are divided by the pace."""

    name: str
    workload: Workload
    machine: Machine
    inputs: Mapping[tuple[str, str], str]
    changed: Callable[[], None]
    restarts: int = 0
    ready: bool = False
    terminating: bool = False
    orderly: bool = False  # whether it ended before it had to be killed
    process: asyncio.subprocess.Process | None = None
    events: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Not started yet."""
        (self.container,) = self.workload.spec["containers"]
        # Set while no process of the container runs.
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None
        self._began = time.monotonic()
        self._pace = self.machine.programs.pace

    @property
    def ports(self) -> dict[str, int]:
        """By name."""
        return {port["name"]: port["containerPort"] for port in self.container["ports"]}

    def log(self, container: str | None = None) -> Path:
        """What a container printed, over all its restarts."""
        return self.machine.root / f"{container or self.container['name']}.log"

    def start(self) -> None:
        """Run until `terminate`."""
        self._task = asyncio.create_task(self._run())

    async def terminate(self) -> None:
        """As `kubectl delete pod`: no Service leads to it from now on, and it may finish what it does."""
        self.terminating = True
        self._be(ready=False)
        stop_s = self.container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        grace_s = self.workload.spec["terminationGracePeriodSeconds"]
        began = time.monotonic()
        if self.process is not None:
            await asyncio.sleep(stop_s / self._pace)
            self.send(signal.SIGINT if self.container["image"].startswith("postgres:") else signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout((grace_s - stop_s) / self._pace + _STARVED_S):
                    await self._idle.wait()
                    self.orderly = True
        self._note(f"ended after {(time.monotonic() - began) * self._pace:.0f} s of {grace_s}")
        await self.destroy()

    async def destroy(self) -> None:
        """As a node that is gone."""
        self.terminating = True
        self.send(signal.SIGKILL)
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=2)
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._be(ready=False)

    def send(self, number: signal.Signals) -> None:
        """To the container's first process alone, which must tell the others; but nothing outlives a SIGKILL of it."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                (os.killpg if number == signal.SIGKILL else os.kill)(self.process.pid, number)

    async def execute(self, container: Manifest, command: list[str]) -> str:
        """As `kubectl exec`: what it printed. Fails if the command does."""
        launch = self.machine.launch(container, environment(container, self.inputs), command)
        process = await self._spawn(launch, asyncio.subprocess.PIPE)
        printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()
        return printed.decode()

    async def _run(self) -> None:
        for container in self.workload.spec.get("initContainers", ()):
            await self._complete(container)
        backoff_s = _BACKOFF_S
        while not self.terminating:
            began = time.monotonic()
            await self._once()
            self._be(ready=False)
            self.restarts += 1
            # The first restart is at once; after ten minutes without one the next is, too.
            if self.restarts > 1 and not self.terminating:
                if time.monotonic() - began > 600 / self._pace:
                    backoff_s = _BACKOFF_S
                await asyncio.sleep(backoff_s / self._pace)
                backoff_s = min(2 * backoff_s, _MOST_BACKOFF_S)

    async def _complete(self, container: Manifest) -> None:
        backoff_s = 0.0
        while True:
            with self.log(container["name"]).open("ab") as log:
                launch = self.machine.launch(container, environment(container, self.inputs))
                self.process = await self._spawn(launch, log)
            status = await self.process.wait()
            self.process = None
            if status == 0 or self.terminating:
                return
            self._note(f"{container['name']} ended with {status}")
            backoff_s = min(max(_BACKOFF_S, 2 * backoff_s), _MOST_BACKOFF_S)
            await asyncio.sleep(backoff_s / self._pace)

    async def _once(self) -> None:
        """One life of the container."""
        with self.log().open("ab") as log:
            launch = self.machine.launch(self.container, environment(self.container, self.inputs))
            self.process = await self._spawn(launch, log)
        self._idle.clear()
        self._note(f"started as {self.process.pid}")
        watching = asyncio.create_task(self._watch())
        try:
            status = await self.process.wait()
        finally:
            self._idle.set()
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        # A container is a process namespace: nothing of it outlives its first process.
        self.send(signal.SIGKILL)
        self._note(f"ended with {status}")

    async def _watch(self) -> None:
        """Probes, as long as the process runs."""
        await self._until(self.container["startupProbe"], wanted=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_readiness())
            group.create_task(self._until(self.container["livenessProbe"], wanted=False))

    async def _until(self, probe: Manifest, *, wanted: bool) -> None:
        """Return at the first success if one is wanted; kill the container at so many failures in a row.

        Who is ending is not asked any more.
        """
        failures = 0
        while failures < probe["failureThreshold"] or self.terminating:
            if await self._probe(probe):
                if wanted:
                    return
                failures = 0
            else:
                failures += 1
            await asyncio.sleep(probe["periodSeconds"] / self._pace)
        self._note(f"killed by its {'startup' if wanted else 'liveness'} probe")
        self.send(signal.SIGKILL)

    async def _follow_readiness(self) -> None:
        probe, failures = self.container["readinessProbe"], 0
        while True:
            failures = 0 if await self._probe(probe) else failures + 1
            if failures == 0 or failures >= probe["failureThreshold"]:
                self._be(ready=failures == 0 and not self.terminating)
            await asyncio.sleep(probe["periodSeconds"] / self._pace)

    async def _probe(self, probe: Manifest) -> bool:
        if "exec" in probe:
            launch = self.machine.launch(self.container, {}, probe["exec"]["command"])
            process = await self._spawn(launch, asyncio.subprocess.DEVNULL)
            try:
                async with asyncio.timeout(probe["timeoutSeconds"]):
                    return await process.wait() == 0
            except TimeoutError:
                process.kill()
                return False
        kind = "httpGet" if "httpGet" in probe else "tcpSocket"
        port = probe[kind]["port"]
        where = (self.machine.address, self.ports.get(port, port))
        return await answers(*where, probe[kind].get("path"), probe["timeoutSeconds"])

    async def _spawn(self, launch: Launch, output: Any) -> asyncio.subprocess.Process:
        more: dict[str, Any] = {} if launch.user is None else {"user": launch.user, "group": launch.user}
        return await asyncio.create_subprocess_exec(
            *launch.command,
            env=launch.variables,
            cwd=self.machine.root / "work",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_die_with_the_tests,
            **more,
        )

    def _be(self, *, ready: bool) -> None:
        if ready != self.ready:
            self.ready = ready
            self._note("ready" if ready else "not ready")
            self.changed()

    def _note(self, event: str) -> None:
        self.events.append(f"{time.monotonic() - self._began:7.2f} {self.name}: {event}")


def _die_with_the_tests() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
