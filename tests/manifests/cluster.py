"""Starts a rendered overlay as local processes, and does what Deployments and StatefulSets do with their pods.

Everything runs in a thread with an event loop of its own, so that a test asks for one thing after the other. What is no
process is not here: scheduling, volumes as such, network policies, autoscaling, monitoring. Jobs are the operator's.
"""

import asyncio
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from tests.k8s.manifests import Manifest, Workload, containers, of_kind, workloads
from tests.manifests.machine import Machine, Programs
from tests.manifests.pod import Pod
from tests.manifests.services import Endpoint, Network, Service

T = TypeVar("T")
Inputs = Mapping[tuple[str, str], str]
_SERVED = ("Deployment", "StatefulSet")
_STEP_S = 0.05


class Cluster:
    """One stack; `inputs` are (object, key) -> value of the Secrets and ConfigMaps that an operator creates."""

    def __init__(self, manifests: list[Manifest], inputs: Inputs, programs: Programs) -> None:
        self._manifests, self._inputs, self._programs = manifests, inputs, programs
        # Short, because a socket's path may not be long, and open to PostgreSQL's own user.
        self.root = Path(tempfile.mkdtemp(prefix="breakeven-k8s-"))
        self.root.chmod(0o755)
        # Not another run's on this machine.
        network = f"127.{os.getpid() % 200 + 20}"
        self._addresses = (f"{network}.{number // 250}.{number % 250 + 1}" for number in count())
        services = [Service(each, next(self._addresses)) for each in of_kind(manifests, "Service").values()]
        self._hosts = self.root / "hosts"
        self.pods: dict[str, list[Pod]] = {}
        self._network = Network(services, self._hosts, self._endpoints, programs.pace)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._numbers = count()

    def start(self) -> None:
        """All pods at once, in no order."""
        self._thread.start()
        self._do(self._network.start())
        for workload in workloads(self._manifests):
            if workload.kind in _SERVED:
                for number in range(self._replicas(workload)):
                    self._do(self._add(workload, number))

    def stop(self) -> None:
        """At once."""
        self._do(self._destroy())
        self._do(self._network.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def url(self, service: str) -> str:
        """Where pods reach a Service that has an address."""
        found = self._network.services[service]
        return f"http://{found.address}:{found.manifest['spec']['ports'][0]['port']}"

    def claim(self, name: str) -> Path:
        """The folder of a PersistentVolumeClaim."""
        folder = self.root / "claims" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def kill(self, pod: Pod, number: signal.Signals = signal.SIGKILL) -> None:
        """kill -9; what follows is the kubelet's."""
        self._loop.call_soon_threadsafe(pod.send, number)

    def rollout_restart(self, name: str, within_s: float = 120) -> None:
        """As `kubectl rollout restart` and `rollout status`: new pods for old ones, as the strategy says."""
        self._do(self._rollout(name), within_s)

    def execute(self, pod: Pod, container: str, command: list[str]) -> str:
        """As `kubectl exec`."""
        spec = pod.workload.spec
        (found,) = (
            each for each in (*spec.get("initContainers", ()), *spec["containers"]) if each["name"] == container
        )
        return self._do(pod.execute(found, command))

    def until_ready(self, *names: str, within_s: float = 120) -> None:
        """Every pod of these, or of all, is ready."""
        chosen = names or tuple(self.pods)
        self.until(lambda: all(pod.ready for name in chosen for pod in self.pods[name]), within_s)

    def until(self, true: Callable[[], bool], within_s: float = 60) -> None:
        """Fails with what happened to the pods, and what they said last."""
        deadline = time.monotonic() + within_s
        while not true():
            assert time.monotonic() < deadline, self.story()
            time.sleep(_STEP_S)

    def story(self) -> str:
        """What happened to every pod, and the end of its log."""
        told = []
        for pod in (pod for pods in self.pods.values() for pod in pods):
            logs = (path.read_text(errors="replace")[-1500:] for path in sorted(pod.machine.root.glob("*.log")))
            told += [*pod.events[-6:], *(f"    {line}" for log in logs for line in log.splitlines()[-12:])]
        return "\n".join(told)

    def _do(self, work: Coroutine[Any, Any, T], within_s: float = 60) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    def _replicas(self, workload: Workload) -> int:
        scaled = (
            each["spec"]["minReplicaCount"]
            for each in of_kind(self._manifests, "ScaledObject").values()
            if each["spec"]["scaleTargetRef"]["name"] == workload.name
        )
        return int(next(scaled, workload.manifest["spec"].get("replicas", 1)))

    def _endpoints(self) -> Iterator[Endpoint]:
        for pod in (pod for pods in self.pods.values() for pod in pods):
            ready = pod.ready and not pod.terminating
            yield Endpoint(pod.workload.labels, pod.machine.address, pod.ports, ready)

    async def _add(self, workload: Workload, number: int | None = None) -> Pod:
        ordinal = number if workload.kind == "StatefulSet" else next(self._numbers)
        name = f"{workload.name}-{ordinal}"
        pod = Pod(name, workload, self._machine(workload, name), self._inputs, self._network.changed)
        self.pods.setdefault(workload.name, []).append(pod)
        self._network.changed()
        pod.start()
        return pod

    async def _destroy(self) -> None:
        await asyncio.gather(*(pod.destroy() for pods in self.pods.values() for pod in pods))

    async def _remove(self, pod: Pod) -> None:
        await pod.terminate()
        self.pods[pod.workload.name].remove(pod)
        self._network.changed()

    async def _rollout(self, name: str) -> None:
        old = list(self.pods[name])
        workload = old[0].workload
        surge = workload.manifest["spec"]["strategy"]["rollingUpdate"]["maxSurge"]
        leaving = []
        for pod in old:
            if surge:
                await self._until_available(await self._add(workload))
                leaving.append(asyncio.create_task(self._remove(pod)))
            else:  # the place that the old one had is what the new one needs
                await self._remove(pod)
                await self._until_available(await self._add(workload))
        await asyncio.gather(*leaving)

    async def _until_available(self, pod: Pod) -> None:
        """Ready, and for long enough."""
        while not pod.ready:  # noqa: ASYNC110  # it comes and goes
            await asyncio.sleep(_STEP_S)
        await asyncio.sleep(pod.workload.manifest["spec"].get("minReadySeconds", 0) / self._programs.pace)

    def _machine(self, workload: Workload, name: str) -> Machine:
        root = self.root / "pods" / name
        (root / "work").mkdir(parents=True)
        paths = dict[str, Path]()
        machine = Machine(root, next(self._addresses), paths, self._hosts, self._programs)
        volumes = {each["name"]: each for each in workload.spec.get("volumes", ())}
        claimed = {each["metadata"]["name"] for each in workload.manifest["spec"].get("volumeClaimTemplates", ())}
        inside = containers(workload.spec).values()
        mounts = {each["mountPath"]: each["name"] for container in inside for each in container["volumeMounts"]}
        # Inner mounts last: their place is in a volume then.
        for mount in sorted(mounts):
            volume = mounts[mount]
            paths[mount] = self.claim(f"{volume}-{name}") if volume in claimed else self._volume(volumes[volume], root)
            for outer in (path for path in paths if mount.startswith(f"{path}/")):
                place = paths[outer] / mount.removeprefix(f"{outer}/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.symlink_to(paths[mount])
        for volume in volumes.values():
            self._fill(volume, root, machine)
        if workload.spec["containers"][0]["image"].startswith("postgres:") and os.geteuid() == 0:
            for folder in (root, *paths.values()):
                shutil.chown(folder, "postgres")
        return machine

    def _volume(self, volume: Manifest, root: Path) -> Path:
        if claim := volume.get("persistentVolumeClaim"):
            return self.claim(claim["claimName"])
        folder = root / "volumes" / str(volume["name"])
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _fill(self, volume: Manifest, root: Path, machine: Machine) -> None:
        """Files of a ConfigMap or a Secret."""
        folder = root / "volumes" / volume["name"]
        if "configMap" in volume:
            for name, content in of_kind(self._manifests, "ConfigMap")[volume["configMap"]["name"]]["data"].items():
                (folder / name).write_text(machine.file(name, content))
        if "secret" in volume:
            for (secret, name), source in self._inputs.items():
                if secret == volume["secret"]["secretName"]:  # by the guides, from a file
                    shutil.copyfile(source, folder / name)


@contextmanager
def started(
    manifests: list[Manifest], inputs: Inputs, programs: Programs, claims: Mapping[str, Path]
) -> Iterator[Cluster]:
    """The stack, with its pods just started; `claims` are volumes that are there already."""
    cluster = Cluster(manifests, inputs, programs)
    try:
        for name, folder in claims.items():
            (cluster.root / "claims").mkdir(exist_ok=True)
            (cluster.root / "claims" / name).symlink_to(folder)
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
