"""Reads k8s/base as written, what kubectl renders of it and of the overlays, and what operators are told to create."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
K8S = Path(__file__).parents[2] / "k8s"
BASE = K8S / "base"
# What an operator applies as a whole.
STACKS = {path.name: path for path in sorted((K8S / "overlays").iterdir())}
TRAINING = K8S / "training-job"
GUIDES = (K8S / "README.md", K8S.parent / "docs" / "kubernetes.md")
ENGINE_KEY = "0123456789abcdef" * 4


def kubectl() -> str | None:
    """Where kubectl is; no package on the index carries it for the Pythons that we support."""
    return shutil.which("kubectl")


def plain() -> list[Manifest]:
    """The resources as written, plus the ConfigMaps that kustomize generates from files (without their hash)."""
    kustomization = yaml.safe_load((BASE / "kustomization.yaml").read_text())
    found = [part for name in kustomization["resources"] for part in yaml.safe_load_all((BASE / name).read_text())]
    for generator in kustomization["configMapGenerator"]:
        data = {name: (BASE / name).read_text() for name in generator["files"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generator["name"]}, "data": data})
    return found


def rendered(command: str, folder: Path = BASE) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    return list(yaml.safe_load_all(_rendered(command, folder)))


@cache
def _rendered(command: str, folder: Path) -> str:
    answer = subprocess.run([command, "kustomize", folder], capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    """Manifests of one kind by name."""
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def pod(manifests: list[Manifest], deployment: str) -> Manifest:
    """The pod spec of a Deployment."""
    spec: Manifest = of_kind(manifests, "Deployment")[deployment]["spec"]["template"]["spec"]
    return spec


def containers(spec: Manifest) -> dict[str, Manifest]:
    """All containers of a pod by name, those that run first included."""
    return {each["name"]: each for each in (*spec.get("initContainers", ()), *spec["containers"])}


@dataclass(frozen=True)
class Workload:
    """Something that makes pods: its kind and name, and the labels and the spec of its pods."""

    kind: str
    name: str
    labels: dict[str, str]
    spec: Manifest
    manifest: Manifest

    @property
    def component(self) -> str:
        """What it is, by its pods' label."""
        return self.labels["app.kubernetes.io/component"]

    @property
    def serves(self) -> bool:
        """Whether its pods are to run for ever."""
        return self.kind != "Job"


def workloads(manifests: list[Manifest]) -> list[Workload]:
    """Everything that makes pods; the pods of a leader and of its workers apart."""
    return [
        Workload(each["kind"], each["metadata"]["name"], template["metadata"]["labels"] | more, template["spec"], each)
        for each in manifests
        for template, more in _templates(each)
    ]


def _templates(manifest: Manifest) -> Iterator[tuple[Manifest, dict[str, str]]]:
    if manifest["kind"] in ("Deployment", "StatefulSet", "Job"):
        yield manifest["spec"]["template"], {}
    if manifest["kind"] == "LeaderWorkerSet":
        group = manifest["spec"]["leaderWorkerTemplate"]
        # The controller numbers the pods of a group.
        yield group["leaderTemplate"], {"leaderworkerset.sigs.k8s.io/worker-index": "0"}
        yield group["workerTemplate"], {"leaderworkerset.sigs.k8s.io/worker-index": "1"}


def operator_inputs() -> dict[tuple[str, str], str]:
    """(object, key) -> value, from the guides' own `kubectl create` lines."""
    inputs = {}
    text = "".join(path.read_text().replace("\\\n", " ") for path in GUIDES)
    for line in text.splitlines():
        words = shlex.split(line) if " create secret generic " in line or " create configmap " in line else []
        name = words[words.index("generic" if "generic" in words else "configmap") + 1] if words else ""
        for word in words:
            if match := re.match(r"--from-(literal|file)=([^=]+)=(.*)", word):
                inputs[name, match[2]] = ENGINE_KEY if match[3].startswith("$(openssl rand") else match[3]
    return inputs


def environment(container: Manifest, given: Mapping[tuple[str, str], str] | None = None) -> dict[str, str]:
    """The container's variables, references resolved from what the operator creates: `given`, or as in the guides.

    KeyError for an unknown one.
    """
    inputs, variables = operator_inputs() if given is None else given, {}
    for variable in container.get("env", ()):
        source = variable.get("valueFrom", {})
        reference = source.get("secretKeyRef") or source.get("configMapKeyRef")
        variables[variable["name"]] = inputs[reference["name"], reference["key"]] if reference else variable["value"]
    return variables
