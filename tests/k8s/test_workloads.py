"""What a schema cannot see: that selectors, ports, probes, volumes and times of the manifests fit each other."""

from typing import Any

import pytest

from serving.app import create_app
from serving.sections import Settings
from tests.k8s.manifests import Manifest, containers, of_kind, pod

DEPLOYMENTS = ("gateway", "engine")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# vLLM answers these without its API key, which a probe cannot send.
VLLM_OPEN_ROUTES = {"/health", "/metrics"}
TEARDOWN_S = 10  # closing the store, or releasing the GPU


def _main(manifests: list[Manifest], deployment: str) -> Manifest:
    (container,) = pod(manifests, deployment)["containers"]
    return dict(container)


def _ports(container: Manifest) -> dict[str, int]:
    return {port["name"]: port["containerPort"] for port in container["ports"]}


def _argument(container: Manifest, name: str) -> str:
    (value,) = (each.partition("=")[2] for each in container["args"] if each.startswith(f"{name}="))
    return str(value)


def _budget_s(probe: dict[str, Any]) -> int:
    return int(probe["periodSeconds"] * probe["failureThreshold"])


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_selectors_meet_exactly_their_pods(manifests: list[Manifest], name: str) -> None:
    deployment, service = of_kind(manifests, "Deployment")[name], of_kind(manifests, "Service")[name]
    policy = of_kind(manifests, "NetworkPolicy")[name]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        policy["spec"]["podSelector"]["matchLabels"],
    ):
        hits = [
            other
            for other in DEPLOYMENTS
            if selector.items()
            <= of_kind(manifests, "Deployment")[other]["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert hits == [name]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_ports_agree(manifests: list[Manifest], settings: Settings, name: str) -> None:
    container = _main(manifests, name)
    (port,) = of_kind(manifests, "Service")[name]["spec"]["ports"]
    number = _ports(container)[port["targetPort"]]
    for probe in PROBES:
        assert container[probe]["httpGet"]["port"] in _ports(container)
    allowed = of_kind(manifests, "NetworkPolicy")[name]["spec"]["ingress"]
    assert [each["port"] for rule in allowed for each in rule["ports"]] == [number]
    if name == "gateway":
        assert settings.server.port == number
        (engine,) = of_kind(manifests, "Service")["engine"]["spec"]["ports"]
        assert settings.engine.url == f"http://engine:{engine['port']}"
    else:
        assert int(_argument(container, "--port")) == number


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_probes_ask_routes_that_exist_and_need_no_key(manifests: list[Manifest], name: str) -> None:
    container = _main(manifests, name)
    paths = {probe: container[probe]["httpGet"]["path"] for probe in PROBES}
    if name == "engine":
        assert set(paths.values()) <= VLLM_OPEN_ROUTES
    else:
        assert set(paths.values()) <= set(create_app().openapi()["paths"])
        assert (paths["livenessProbe"], paths["readinessProbe"]) == ("/livez", "/readyz")


def test_the_grace_period_covers_an_orderly_end(manifests: list[Manifest], settings: Settings) -> None:
    gateway, engine = _main(manifests, "gateway"), _main(manifests, "engine")
    needed = gateway["lifecycle"]["preStop"]["sleep"]["seconds"] + settings.server.shutdown_s + TEARDOWN_S
    assert pod(manifests, "gateway")["terminationGracePeriodSeconds"] > needed
    drain_s = int(_argument(engine, "--shutdown-timeout"))
    assert drain_s > 0
    needed = engine["lifecycle"]["preStop"]["sleep"]["seconds"] + drain_s + TEARDOWN_S
    assert pod(manifests, "engine")["terminationGracePeriodSeconds"] > needed


def test_nobody_gives_up_before_the_engine_has_loaded(manifests: list[Manifest], settings: Settings) -> None:
    load_s = _budget_s(_main(manifests, "engine")["startupProbe"])
    waits_s = settings.engine.startup_timeout_s
    assert waits_s > load_s
    for name in DEPLOYMENTS:
        assert of_kind(manifests, "Deployment")[name]["spec"]["progressDeadlineSeconds"] > waits_s


def test_one_pod_at_a_time_owns_each_volume(manifests: list[Manifest]) -> None:
    gateway, engine = (of_kind(manifests, "Deployment")[name]["spec"] for name in DEPLOYMENTS)
    assert (gateway["replicas"], gateway["strategy"]) == (1, {"type": "Recreate"})
    assert engine["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    for name in DEPLOYMENTS:
        volumes = {volume["name"]: volume for volume in pod(manifests, name)["volumes"]}
        for container in containers(pod(manifests, name)).values():
            assert {mount["name"] for mount in container["volumeMounts"]} <= set(volumes)
        claims = {v["persistentVolumeClaim"]["claimName"] for v in volumes.values() if "persistentVolumeClaim" in v}
        assert claims <= set(of_kind(manifests, "PersistentVolumeClaim"))
        maps = {volume["configMap"]["name"] for volume in volumes.values() if "configMap" in volume}
        assert maps <= set(of_kind(manifests, "ConfigMap"))


def test_the_engine_has_its_gpu_and_shared_memory(manifests: list[Manifest]) -> None:
    container = _main(manifests, "engine")
    assert container["resources"]["limits"]["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == _argument(container, "--tensor-parallel-size")
    shared = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}["/dev/shm"]  # noqa: S108  # a mount
    (volume,) = (each for each in pod(manifests, "engine")["volumes"] if each["name"] == shared)
    assert volume["emptyDir"]["medium"] == "Memory"
