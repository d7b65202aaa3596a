"""Every manifest is valid on three versions of Kubernetes, strictly; a kind that nobody knows is a failure."""

import copy
import json
from functools import cache
from typing import Any

import jsonschema
import kubernetes_validate
import pytest

from tests.k8s.custom_resources import check, is_custom
from tests.k8s.manifests import Manifest, of_kind, workloads

VERSIONS = ("1.35", "1.36", "1.37")


def assert_valid(manifest: Manifest, version: str) -> None:
    _valid(json.dumps(manifest, sort_keys=True), version)


@cache
def _valid(manifest: str, version: str) -> None:
    """As JSON, so that what overlays have in common is checked once. An unknown kind raises; the command line of the
    validator would only warn."""
    kubernetes_validate.validate(json.loads(manifest), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_is_valid(manifests: list[Manifest], version: str) -> None:
    for manifest in manifests:
        assert_valid(manifest, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_overlay_is_valid(whole: list[Manifest], version: str) -> None:
    for manifest in whole:
        if is_custom(manifest):
            check(manifest)
        else:
            assert_valid(manifest, version)
    for each in workloads(whole):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": each.name}, "spec": each.spec}
        assert_valid(pod, version)


def test_no_two_objects_have_one_name(whole: list[Manifest]) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in whole]
    assert len(set(names)) == len(names)


def test_the_validator_refuses_what_it_should(manifests: list[Manifest]) -> None:
    broken = copy.deepcopy(of_kind(manifests, "Deployment")["gateway"])
    broken["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate({**broken, "kind": "Deploymnet"}, "1.37", strict=True)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("ScaledObject", ["spec", "minReplicas"], 2),
        ("ScaledObject", ["spec", "triggers", 0, "metadataa"], {}),
        ("ServiceMonitor", ["spec", "endpoints", 0, "intervall"], "15s"),
        ("PodMonitor", ["spec", "selector", "matchLabel"], {}),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "exprr"], "1"),
        ("InferencePool", ["spec", "extensionRef"], {}),
        ("HTTPRoute", ["spec", "rules", 0, "backendRef"], {}),
        ("LeaderWorkerSet", ["spec", "leaderWorkerTemplate", "size"], 0),
    ],
)
def test_a_field_that_a_custom_resource_lacks_is_found(
    whole: list[Manifest], kind: str, path: list[str | int], value: Any
) -> None:
    for manifest in of_kind(whole, kind).values():
        if manifest["spec"].get("groups") == []:
            continue  # the price list, which operators fill
        broken = copy.deepcopy(manifest)
        inner: Any = broken
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = value
        with pytest.raises(jsonschema.ValidationError):
            check(broken)


def test_rendering_puts_everything_into_one_restricted_namespace(manifests: list[Manifest]) -> None:
    (namespace,) = of_kind(manifests, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    elsewhere = {each["metadata"].get("namespace") for each in manifests if each is not namespace}
    # As written there is none; kustomize sets it.
    assert elsewhere in ({None}, {namespace["metadata"]["name"]})


def test_an_overlay_stays_in_the_namespace(whole: list[Manifest]) -> None:
    assert {each["metadata"].get("namespace") for each in whole if each["kind"] != "Namespace"} == {"breakeven"}
