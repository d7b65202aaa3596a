"""What an operator does by docs/kubernetes.md before `kubectl apply`: an overlay of his own, Secrets, the first key."""

import os
from pathlib import Path
from typing import Any

import yaml

from tests.k8s.manifests import BASE, STACKS, Manifest, operator_inputs, rendered
from tests.manifests.cluster import Cluster

PASSWORD = "only-for-tests"
WAITING = "await-operator-key"


def overlay(kubectl: str, folder: Path, configuration: dict[str, Any], model: str | None = None) -> list[Manifest]:
    """`scale-out` with more in the gateway's breakeven.yaml, as kustomize merges it in, and with another model."""
    folder.mkdir()
    tree = yaml.safe_load((BASE / "breakeven.yaml").read_text())
    for name, section in configuration.items():
        tree[name] = {**tree.get(name, {}), **section} if isinstance(section, dict) else section
    (folder / "breakeven.yaml").write_text(yaml.safe_dump(tree))
    kustomization: dict[str, Any] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": "breakeven",
        "resources": [os.path.relpath(STACKS["scale-out"], folder.resolve())],
        "configMapGenerator": [{"name": "gateway-config", "behavior": "merge", "files": ["breakeven.yaml"]}],
    }
    if model is not None:
        kustomization["patches"] = _served(model)
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return rendered(kubectl, folder)


def _served(model: str) -> list[dict[str, Any]]:
    """What k8s/README.md has changed together."""
    arguments = [f"--model=/models/{model}", f"--served-model-name={model}"]
    place = "/spec/template/spec/containers/0/args"
    changes = [{"op": "replace", "path": f"{place}/{at}", "value": value} for at, value in enumerate(arguments)]
    variable = {"name": "BREAKEVEN_ENGINE__MODEL", "value": model}
    pod = {"spec": {"containers": [{"name": "gateway", "env": [variable]}]}}
    gateway = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "gateway"},
        "spec": {"template": pod},
    }
    return [
        {"target": {"kind": "Deployment", "name": "engine"}, "patch": yaml.safe_dump(changes)},
        {"target": {"kind": "Deployment", "name": "gateway"}, "patch": yaml.safe_dump(gateway)},
    ]


def inputs() -> dict[tuple[str, str], str]:
    """The guides' Secrets and ConfigMaps, with a password."""
    given = operator_inputs()
    given["database", "password"] = PASSWORD
    given["database", "url"] = f"postgresql://breakeven:{PASSWORD}@postgres:5432/breakeven"
    return given


def create_key(cluster: Cluster, container: str, role: str, *more: str) -> str:
    """`breakeven keys create` in a gateway's pod, which prints the key."""
    command = ["breakeven", "keys", "create", "--role", role, *more]
    return cluster.execute(cluster.pods["gateway"][0], container, command).split()[-1]


def first_key(cluster: Cluster) -> str:
    """As the guide says: in a container that waits for it."""
    log = cluster.pods["gateway"][0].log(WAITING)
    cluster.until(lambda: log.is_file() and "Create one: kubectl" in log.read_text())
    return create_key(cluster, WAITING, "operator", "--note", "first")
