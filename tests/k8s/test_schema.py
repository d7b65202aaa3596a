"""The manifests are valid for the newest API that the validator knows, and kustomize wires them together."""

import copy

import kubernetes_validate
import pytest

from tests.k8s.manifests import Manifest, of_kind


def test_every_manifest_is_valid(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        # An unknown kind raises here; the command line of the validator would only warn.
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_the_validator_refuses_what_it_should(manifests: list[Manifest]) -> None:
    broken = copy.deepcopy(of_kind(manifests, "Deployment")["gateway"])
    broken["spec"]["template"]["spec"]["enableServiceLink"] = False
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate({**broken, "kind": "Deploymnet"}, "1.37", strict=True)


def test_rendering_puts_everything_into_one_restricted_namespace(manifests: list[Manifest]) -> None:
    (namespace,) = of_kind(manifests, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    elsewhere = {each["metadata"].get("namespace") for each in manifests if each is not namespace}
    # As written there is none; kustomize sets it.
    assert elsewhere in ({None}, {namespace["metadata"]["name"]})
