"""What no schema sees, in every overlay: names that lead somewhere, ports that are open, and who may speak to whom."""

from urllib.parse import urlsplit

import pytest

from tests.k8s.manifests import Manifest, Workload, containers, environment, of_kind, operator_inputs, workloads
from tests.k8s.network import Peer, allowed, selects

PROMETHEUS = Peer({"app.kubernetes.io/name": "prometheus"}, "monitoring")
STRANGER = Peer({"app": "anything"}, "default")
DATA_PLANE = {"gateway.networking.k8s.io/gateway-name": "inference-gateway"}
# Who may be asked by whom: everything else is closed.
ASKED_BY = {
    "engine": {"gateway", "router", "picker"},
    "postgres": {"gateway"},
    "chroma": {"gateway"},
    "router": {"gateway"},
    "picker": set[str](),
    "fetch-model": set[str](),
}


def _ports(each: Workload) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"] for one in containers(each.spec).values() for port in one.get("ports", ())
    }


def _met(manifests: list[Manifest], selector: Manifest) -> list[Workload]:
    return [each for each in workloads(manifests) if selects(selector, each.labels)]


def test_selectors_of_workloads_meet_their_own_pods_alone(whole: list[Manifest]) -> None:
    for each in workloads(whole):
        if each.kind in ("Deployment", "StatefulSet"):
            assert _met(whole, each.manifest["spec"]["selector"]) == [each]


def test_services_lead_to_a_port_of_one_kind_of_pod(stack: list[Manifest]) -> None:
    for name, service in of_kind(stack, "Service").items():
        (target,) = _met(stack, {"matchLabels": service["spec"]["selector"]})
        for port in service["spec"]["ports"]:
            assert port["targetPort"] in _ports(target), name


def test_what_a_pod_mounts_or_reads_exists(whole: list[Manifest]) -> None:
    given = {name for name, _ in operator_inputs()}
    for each in workloads(whole):
        volumes = {volume["name"]: volume for volume in each.spec.get("volumes", ())}
        templates = {claim["metadata"]["name"] for claim in each.manifest["spec"].get("volumeClaimTemplates", ())}
        for container in containers(each.spec).values():
            assert {mount["name"] for mount in container.get("volumeMounts", ())} <= volumes.keys() | templates
            environment(container)  # KeyError for a reference that no guide tells an operator to create
        for volume in volumes.values():
            if claim := volume.get("persistentVolumeClaim"):
                assert claim["claimName"] in of_kind(whole, "PersistentVolumeClaim"), each.name
            if "configMap" in volume:
                assert volume["configMap"]["name"] in of_kind(whole, "ConfigMap"), each.name
            if "secret" in volume:
                assert volume["secret"]["secretName"] in given, each.name


def test_no_claim_is_left_over_and_none_is_shared_that_cannot_be(whole: list[Manifest]) -> None:
    users: dict[str, list[Workload]] = {}
    for each in workloads(whole):
        for volume in each.spec.get("volumes", ()):
            if claim := volume.get("persistentVolumeClaim"):
                users.setdefault(claim["claimName"], []).append(each)
    claims = of_kind(whole, "PersistentVolumeClaim")
    assert set(users) == set(claims)
    for name, pods in users.items():
        if claims[name]["spec"]["accessModes"] == ["ReadWriteOnce"]:
            (only,) = pods
            assert only.manifest["spec"].get("replicas", 1) == 1
            assert only.manifest["kind"] == "Job" or not _grows(only)


def _grows(each: Workload) -> bool:
    """Whether a second pod may be there while the first still is."""
    strategy = each.manifest["spec"].get("strategy", {})
    return bool(strategy.get("type") != "Recreate" and strategy["rollingUpdate"]["maxSurge"])


def test_disruption_budgets_are_for_what_has_a_second_pod(stack: list[Manifest]) -> None:
    scaled = {each["spec"]["scaleTargetRef"]["name"] for each in of_kind(stack, "ScaledObject").values()}
    budgets = of_kind(stack, "PodDisruptionBudget")
    for name, budget in budgets.items():
        assert (budget["spec"]["maxUnavailable"], budget["spec"]["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
        (target,) = _met(stack, budget["spec"]["selector"])
        assert target.name == name
    several = {
        each.name
        for each in workloads(stack)
        if each.kind == "Deployment" and (each.name in scaled or each.manifest["spec"]["replicas"] > 1)
    }
    assert set(budgets) == several
    # And they are spread over nodes.
    for each in workloads(stack):
        if each.name in several:
            spread = each.spec["topologySpreadConstraints"]
            assert "kubernetes.io/hostname" in {one["topologyKey"] for one in spread}
            assert all(_met(stack, one["labelSelector"]) == [each] for one in spread)


def test_what_is_scaled_has_no_number_of_its_own(stack: list[Manifest]) -> None:
    for each in of_kind(stack, "ScaledObject").values():
        spec = each["spec"]
        target = of_kind(stack, "Deployment")[spec["scaleTargetRef"]["name"]]
        assert "replicas" not in target["spec"]
        # A metric that is missing must neither count as zero nor as anything else.
        assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]
        for trigger in spec["triggers"]:
            # KEDA falls back for this kind of target alone.
            assert (trigger["type"], trigger["metricType"]) == ("prometheus", "AverageValue")
            assert trigger["metadata"]["ignoreNullValues"] == "false"
            assert float(trigger["metadata"]["threshold"]) > 0


def test_monitors_find_a_port(stack: list[Manifest]) -> None:
    for each in of_kind(stack, "ServiceMonitor").values():
        found = [
            s for s in of_kind(stack, "Service").values() if selects(each["spec"]["selector"], s["metadata"]["labels"])
        ]
        (service,) = found
        assert {one["port"] for one in each["spec"]["endpoints"]} == {port["name"] for port in service["spec"]["ports"]}
    for each in of_kind(stack, "PodMonitor").values():
        found_pods = _met(stack, each["spec"]["selector"])
        assert found_pods
        for one in each["spec"]["podMetricsEndpoints"]:
            targets = [pod for pod in found_pods if one["port"] in _ports(pod)]
            assert targets
            assert all(allowed(stack, PROMETHEUS, Peer(pod.labels), _ports(pod)[one["port"]]) for pod in targets)


def _addresses(container: Manifest) -> list[tuple[str, int]]:
    """Hosts and ports that a container's variables name."""
    found = []
    for value in environment(container).values():
        if "://" in value:
            parts = urlsplit(value)
            if parts.port and parts.hostname:
                found.append((parts.hostname, parts.port))
    return found


def test_whom_a_gateway_asks_it_reaches(stack: list[Manifest]) -> None:
    (gateway,) = (each for each in workloads(stack) if each.component == "gateway")
    addresses = _addresses(containers(gateway.spec)["gateway"])
    assert addresses
    for host, port in addresses:
        if host.startswith("inference-gateway-"):
            assert allowed(stack, Peer(gateway.labels), Peer(DATA_PLANE), port)
            continue
        service = of_kind(stack, "Service")[host]
        assert port in {each["port"] for each in service["spec"]["ports"]}
        (target,) = _met(stack, {"matchLabels": service["spec"]["selector"]})
        assert allowed(stack, Peer(gateway.labels), Peer(target.labels), port), host


def test_nobody_else_is_let_in(stack: list[Manifest]) -> None:
    pods = [Peer(each.labels) for each in workloads(stack)]
    for target in workloads(stack):
        for port in _ports(target).values():
            asking = {
                pod.labels["app.kubernetes.io/component"]
                for pod in pods
                if allowed(stack, pod, Peer(target.labels), port)
            }
            if (component := target.component) == "gateway":
                # Everybody may come in, but only those that may go out do: none of ours.
                assert asking == set()
                assert allowed(stack, STRANGER, Peer(target.labels), port)
            else:
                alone = {"engine"} if component == "engine" and target.kind == "LeaderWorkerSet" else set()
                assert asking <= ASKED_BY[component] | alone, component
                assert not allowed(stack, STRANGER, Peer(target.labels), port), component


@pytest.mark.parametrize("kind", ["Gateway", "InferencePool"])
def test_routes_of_the_inference_extension_lead_somewhere(stack: list[Manifest], kind: str) -> None:
    for route in of_kind(stack, "HTTPRoute").values():
        references = [*route["spec"]["parentRefs"], *route["spec"]["rules"][0]["backendRefs"]]
        named = {each["name"] for each in references if each["kind"] == kind}
        assert named == set(of_kind(stack, kind))
    for pool in of_kind(stack, "InferencePool").values():
        picker = pool["spec"]["endpointPickerRef"]
        service = of_kind(stack, "Service")[picker["name"]]
        assert picker["port"]["number"] in {each["port"] for each in service["spec"]["ports"]}
        (engine,) = _met(stack, pool["spec"]["selector"])
        (port,) = (each["number"] for each in pool["spec"]["targetPorts"])
        assert port in _ports(engine).values()
        assert allowed(stack, Peer(DATA_PLANE), Peer(engine.labels), port)


def test_a_group_does_not_take_the_name_of_a_service(stack: list[Manifest]) -> None:
    # Its controller makes a headless one of the group's name, which gives the ranks their addresses.
    assert not of_kind(stack, "LeaderWorkerSet").keys() & of_kind(stack, "Service").keys()
