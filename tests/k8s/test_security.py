"""Pods are restricted, images pinned, secrets referred to, and the network closed but for what is named."""

import re
from ipaddress import ip_address, ip_network
from typing import Any

from tests.k8s.manifests import Manifest, containers, of_kind, workloads

METADATA_SERVICE = ip_address("169.254.169.254")
# The endpoint picker of the inference extension watches pods: it needs the API server.
WITH_TOKEN = {"picker"}
RESTRICTED = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
# A digest, or a version to the last part; never `latest`, `v1` or nothing.
EXACT = re.compile(r".+@sha256:[0-9a-f]{64}|[^:]+:(?:distroless-)?v?\d+\.\d+(?:\.\d+)?")
SECRET_NAME = re.compile(r"(KEY|TOKEN|PASSWORD|DATABASE_URL)$")


def test_every_container_is_restricted(manifests: list[Manifest]) -> None:
    _all_restricted(manifests)


def test_every_container_of_an_overlay_is_restricted(whole: list[Manifest]) -> None:
    _all_restricted(whole)


def _all_restricted(manifests: list[Manifest]) -> None:
    for workload in workloads(manifests):
        spec = workload.spec
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is (workload.name in WITH_TOKEN)
        assert ("serviceAccountName" in spec) is (workload.name in WITH_TOKEN)
        # Service links bring BREAKEVEN_* variables, which the settings refuse.
        assert spec["enableServiceLinks"] is False
        for container in containers(spec).values():
            assert container["securityContext"] == RESTRICTED
            assert {"requests", "limits"} <= set(container["resources"])
            assert "memory" in container["resources"]["limits"]
        for volume in spec.get("volumes", ()):
            assert set(volume) - {"name"} <= {"emptyDir", "configMap", "secret", "persistentVolumeClaim"}, volume
            # A volume in memory or on the node's disk without a limit takes the node with it.
            assert "sizeLimit" in volume.get("emptyDir", {"sizeLimit": 1}), volume


def test_images_are_exact(whole: list[Manifest]) -> None:
    for workload in workloads(whole):
        for container in containers(workload.spec).values():
            assert EXACT.fullmatch(container["image"]), container["image"]
            # An exact image need not be asked for at each start; without a rule `latest` would be.
            assert "imagePullPolicy" not in container


def test_vague_images_are_refused() -> None:
    for vague in ("vllm/vllm-openai", "vllm/vllm-openai:latest", "postgres:15", "a/b:v1", "a:1.2.3-beta@sha256:12"):
        assert not EXACT.fullmatch(vague), vague


def test_no_secret_is_in_the_manifests(whole: list[Manifest]) -> None:
    assert not of_kind(whole, "Secret")
    for workload in workloads(whole):
        for container in containers(workload.spec).values():
            written = {variable["name"] for variable in container.get("env", ()) if "value" in variable}
            assert not {name for name in written if SECRET_NAME.search(name)}
            assert not [word for word in container.get("args", ()) if "--api-key" in word]


def test_all_traffic_is_denied_unless_named(manifests: list[Manifest]) -> None:
    deny = of_kind(manifests, "NetworkPolicy")["default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_only_the_gateway_and_prometheus_reach_the_engine(manifests: list[Manifest]) -> None:
    policies = of_kind(manifests, "NetworkPolicy")
    (rule,) = policies["engine"]["spec"]["ingress"]
    gateway, prometheus = rule["from"]
    assert gateway == {"podSelector": policies["gateway"]["spec"]["podSelector"]}
    assert set(prometheus) == {"namespaceSelector", "podSelector"}
    assert prometheus["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "prometheus"}


def test_nobody_reaches_the_metadata_service(whole: list[Manifest]) -> None:
    for policy in of_kind(whole, "NetworkPolicy").values():
        for rule in policy["spec"].get("egress", ()):
            assert rule["to"]
            assert not [peer for peer in rule["to"] if "ipBlock" in peer and _allows_metadata(peer["ipBlock"])]


def _allows_metadata(block: dict[str, Any]) -> bool:
    inside = METADATA_SERVICE in ip_network(block["cidr"])
    return inside and not any(METADATA_SERVICE in ip_network(part) for part in block.get("except", ()))
