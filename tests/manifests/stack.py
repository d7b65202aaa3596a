"""A stack that an operator has made, and what a test asks of it."""

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.k8s.manifests import ENGINE_KEY, kubectl
from tests.manifests.cluster import Cluster, started
from tests.manifests.load import Load
from tests.manifests.machine import Programs, own_mounts
from tests.manifests.pod import Pod
from tests.manifests.preparation import create_key, first_key, inputs, overlay
from tests.servers import postgres_programs

BUDGET_USD = "0.004"


@dataclass(frozen=True)
class Stack:
    """A running stack and an operator's key to it."""

    cluster: Cluster
    key: str
    budget_key: str  # of a user, who may spend BUDGET_USD a day

    @property
    def engine_key(self) -> str:
        """What gateways and engines share."""
        return ENGINE_KEY

    @property
    def gateways(self) -> list[Pod]:
        """All of them, ready or not."""
        return self.cluster.pods["gateway"]

    def client(self, pod: Pod, key: str | None = None) -> httpx.Client:
        """Of one gateway alone, past its Service."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=f"http://{pod.machine.address}:8000/v1", headers=headers, timeout=30)

    def load(self, model: str = "base", rate: float = 10, **more: Any) -> Load:
        """Clients of the Service. `more`: see Load."""
        return Load(self.cluster.url("gateway"), self.key, model, rate, **more)


@contextmanager
def running(
    folder: Path,
    programs: Programs,
    configuration: dict[str, Any],
    model: str | None = None,
    claims: Mapping[str, Path] | None = None,
    within_s: float = 120,
) -> Iterator[Stack]:
    """All pods are ready. `claims` are volumes that are filled already; `model` is served instead of the overlay's."""
    command = _needs()
    manifests = overlay(command, folder / "overlay", configuration, model)
    with started(manifests, inputs(), programs, claims or {}) as cluster:
        key = first_key(cluster)
        cluster.until_ready(within_s=within_s)
        budget_key = create_key(cluster, "gateway", "user", "--tenant", "acme", "--budget", f"{BUDGET_USD}/day")
        yield Stack(cluster, key, budget_key)


def _needs() -> str:
    command = kubectl()
    if command is None:
        pytest.skip("NOT TESTED: kubectl is not on PATH")
    if postgres_programs() is None:
        pytest.skip("NOT TESTED: PostgreSQL is not installed")
    mount = [*own_mounts(), "mount", "--bind", "/etc/hosts", "/etc/hosts"]
    if shutil.which("unshare") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: this machine lets nobody mount a hosts file (unshare --mount)")
    return command
