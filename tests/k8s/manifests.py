"""Reads k8s/base as written and as kubectl renders it, and what its README tells an operator to create."""

import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
K8S = Path(__file__).parents[2] / "k8s"
BASE = K8S / "base"
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


def rendered(command: str) -> list[Manifest]:
    """What `kubectl apply -k` would send."""
    answer = subprocess.run([command, "kustomize", BASE], capture_output=True, text=True, timeout=60, check=False)
    assert answer.returncode == 0, answer.stderr
    return list(yaml.safe_load_all(answer.stdout))


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


def operator_inputs() -> dict[tuple[str, str], str]:
    """(object, key) -> value, from the README's own `kubectl create` lines."""
    inputs = {}
    text = (K8S / "README.md").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        words = shlex.split(line) if " create secret generic " in line or " create configmap " in line else []
        name = words[words.index("generic" if "generic" in words else "configmap") + 1] if words else ""
        for word in words:
            if word.startswith("--from-literal="):
                key, _, value = word.removeprefix("--from-literal=").partition("=")
                inputs[name, key] = ENGINE_KEY if value == "$(openssl rand -hex 32)" else value
    return inputs


def environment(container: Manifest) -> dict[str, str]:
    """The container's variables, references resolved from what the operator creates. KeyError for an unknown one."""
    inputs, variables = operator_inputs(), {}
    for variable in container.get("env", ()):
        source = variable.get("valueFrom", {})
        reference = source.get("secretKeyRef") or source.get("configMapKeyRef")
        variables[variable["name"]] = inputs[reference["name"], reference["key"]] if reference else variable["value"]
    return variables
