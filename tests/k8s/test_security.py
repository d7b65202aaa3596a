"""Pods are restricted, images pinned, and the network closed but for what is named."""

from ipaddress import ip_address, ip_network
from typing import Any

from tests.k8s.manifests import Manifest, containers, of_kind, pod

METADATA_SERVICE = ip_address("169.254.169.254")


def _pods(manifests: list[Manifest]) -> list[Manifest]:
    return [pod(manifests, name) for name in of_kind(manifests, "Deployment")]


def test_every_container_is_restricted(manifests: list[Manifest]) -> None:
    for spec in _pods(manifests):
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        # Service links bring BREAKEVEN_* variables, which the settings refuse.
        assert spec["enableServiceLinks"] is False
        for container in containers(spec).values():
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"requests", "limits"} <= set(container["resources"])


def test_images_are_pinned(manifests: list[Manifest]) -> None:
    for spec in _pods(manifests):
        for container in containers(spec).values():
            _, _, tag = container["image"].rpartition("/")[2].partition(":")
            assert tag
            assert tag.lstrip("v")[0].isdigit(), f"{container['image']} is not a version"


def test_no_secret_is_in_the_manifests(manifests: list[Manifest]) -> None:
    assert not of_kind(manifests, "Secret")
    for spec in _pods(manifests):
        for container in containers(spec).values():
            plain = {variable["name"] for variable in container["env"] if "value" in variable}
            assert not {name for name in plain if name.endswith(("KEY", "TOKEN"))}


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


def test_nobody_reaches_the_metadata_service(manifests: list[Manifest]) -> None:
    for policy in of_kind(manifests, "NetworkPolicy").values():
        for rule in policy["spec"].get("egress", ()):
            assert rule["to"]
            assert not [peer for peer in rule["to"] if "ipBlock" in peer and _allows_metadata(peer["ipBlock"])]


def _allows_metadata(block: dict[str, Any]) -> bool:
    inside = METADATA_SERVICE in ip_network(block["cidr"])
    return inside and not any(METADATA_SERVICE in ip_network(part) for part in block.get("except", ()))
