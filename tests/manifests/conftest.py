"""The scale-out overlay on this machine, started once for all tests of a file."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests.k8s.manifests import kubectl
from tests.manifests.cluster import Cluster, started
from tests.manifests.load import Load
from tests.manifests.machine import LIGHT, Programs
from tests.manifests.pod import Pod
from tests.manifests.preparation import create_key, inputs, overlay
from tests.servers import postgres_programs

# As in an operator's own overlay: fewer documents, so that gateways start sooner, and a served model with an adapter.
CONFIGURATION = {
    "knowledge": {"handbook": {"paths": ["/opt/breakeven/examples/handbook/people/annual-leave.md"]}},
    "models": {"tone": {"adapter": "tone"}},
}
BUDGET_USD = "0.004"


@dataclass(frozen=True)
class Stack:
    """A running stack and an operator's key to it."""

    cluster: Cluster
    key: str
    budget_key: str  # of a user, who may spend BUDGET_USD a day

    @property
    def gateways(self) -> list[Pod]:
        """All of them, ready or not."""
        return self.cluster.pods["gateway"]

    def client(self, pod: Pod, key: str | None = None) -> httpx.Client:
        """Of one gateway alone, past its Service."""
        headers = {"authorization": f"Bearer {key or self.key}"}
        return httpx.Client(base_url=f"http://{pod.machine.address}:8000/v1", headers=headers, timeout=30)

    def load(self, model: str = "base", rate: float = 10) -> Load:
        """Clients of the Service."""
        return Load(self.cluster.url("gateway"), self.key, model, rate)


@pytest.fixture(scope="module")
def programs() -> Programs:
    """What stands for the images' programs."""
    return LIGHT


@pytest.fixture(scope="module")
def stack(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All pods are ready."""
    command = _needs()
    folder = tmp_path_factory.mktemp("operator")
    key = create_key(folder, "operator", "--note", "first")
    budget_key = create_key(folder, "user", "--tenant", "acme", "--budget", f"{BUDGET_USD}/day")
    manifests = overlay(command, folder / "overlay", CONFIGURATION)
    with started(manifests, inputs(folder), programs) as cluster:
        cluster.until_ready(within_s=120)
        yield Stack(cluster, key, budget_key)


def _needs() -> str:
    command = kubectl()
    if command is None:
        pytest.skip("NOT TESTED: kubectl is not on PATH")
    if postgres_programs() is None:
        pytest.skip("NOT TESTED: PostgreSQL is not installed")
    mount = [shutil.which("unshare") or "unshare", "--map-root-user", "--mount", "true"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("NOT TESTED: this machine lets nobody mount a hosts file (unshare --mount)")
    return command
