"""What network policies let through: as Kubernetes reads them, for pods of one namespace and one visitor of another."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.k8s.manifests import Manifest, of_kind

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Peer:
    """A pod: its labels, and the name of its namespace if that is not ours."""

    labels: Labels
    namespace: str | None = None


def selects(selector: Manifest, labels: Labels) -> bool:
    """Whether a selector of matchLabels meets these labels; an empty one meets all."""
    assert set(selector) <= {"matchLabels"}, selector
    return dict(selector.get("matchLabels", {})).items() <= dict(labels).items()


def allowed(manifests: list[Manifest], source: Peer, target: Peer, port: int) -> bool:
    """Whether a connection passes: out of the source's pod, if it is ours, and into the target's."""
    leaves = source.namespace is not None or _open(manifests, "Egress", source, target, port)
    return leaves and _open(manifests, "Ingress", target, source, port)


def _open(manifests: list[Manifest], way: str, pod: Peer, other: Peer, port: int) -> bool:
    policies = [
        policy["spec"]
        for policy in of_kind(manifests, "NetworkPolicy").values()
        if way in policy["spec"]["policyTypes"] and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    if not policies:
        return True
    peers = "from" if way == "Ingress" else "to"
    return any(
        _meets(rule[peers], other) and _has_port(rule, port)
        for policy in policies
        for rule in policy.get(way.lower(), ())
    )


def _meets(peers: list[Manifest], other: Peer) -> bool:
    return any(_is(peer, other) for peer in peers)


def _is(peer: Manifest, other: Peer) -> bool:
    if "ipBlock" in peer:
        return False
    if "namespaceSelector" in peer:
        here = {"kubernetes.io/metadata.name": other.namespace or "breakeven"}
        if not selects(peer["namespaceSelector"], here):
            return False
    elif other.namespace is not None:
        return False
    return selects(peer.get("podSelector", {}), other.labels)


def _has_port(rule: Manifest, port: int) -> bool:
    return "ports" not in rule or port in _ports(rule)


def _ports(rule: Manifest) -> Iterator[int]:
    for each in rule["ports"]:
        if each.get("protocol", "TCP") == "TCP":
            yield each["port"]
