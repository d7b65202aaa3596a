"""Probes and ends of every pod of every overlay: they ask what is there, wait long enough, and cut nothing off."""

from typing import Any

import pytest

from serving.app import create_app
from serving.sections import Settings
from serving.settings import load_settings
from tests.k8s.manifests import BASE, Manifest, Workload, containers, environment, of_kind, workloads

PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
# vLLM answers these without its API key, which a probe cannot send; the others are their programs' own.
OPEN_ROUTES = {"engine": {"/health"}, "chroma": {"/api/v2/heartbeat"}, "router": {"/ready"}}
TEARDOWN_S = 10
# A worker of a group has no server: the controller watches its process, and its leader's health is the group's.
NO_SERVER = {("LeaderWorkerSet", "1")}


def _settings(manifests: list[Manifest]) -> Settings:
    (gateway,) = (each for each in workloads(manifests) if each.name == "gateway")
    return load_settings(BASE / "breakeven.yaml", environment(containers(gateway.spec)["gateway"]))


def _probed(manifests: list[Manifest]) -> list[tuple[Workload, Manifest]]:
    return [
        (each, each.spec["containers"][0])
        for each in workloads(manifests)
        if each.serves and (each.kind, each.labels.get("leaderworkerset.sigs.k8s.io/worker-index")) not in NO_SERVER
    ]


def _value(container: Manifest, name: str) -> str:
    (value,) = (each.partition("=")[2] for each in container["args"] if each.startswith(f"{name}="))
    return str(value)


def _budget_s(probe: dict[str, Any]) -> int:
    return int(probe["periodSeconds"] * probe["failureThreshold"])


def test_every_probe_asks_something_that_is_there(stack: list[Manifest]) -> None:
    gateway_routes = set(create_app().openapi()["paths"])
    for workload, container in _probed(stack):
        ports = {port["name"] for port in container["ports"]} | {port["containerPort"] for port in container["ports"]}
        routes = {**OPEN_ROUTES, "gateway": gateway_routes}.get(workload.component, set())
        for name in PROBES:
            probe = container[name]
            assert probe["timeoutSeconds"] >= 2, (workload.name, name)
            if "httpGet" in probe:
                assert probe["httpGet"]["port"] in ports
                assert probe["httpGet"]["path"] in routes, workload.name
            elif "exec" not in probe:
                assert probe.get("tcpSocket", probe.get("grpc"))["port"] in ports


def test_a_dead_program_is_given_more_time_than_a_busy_one(stack: list[Manifest]) -> None:
    for workload, container in _probed(stack):
        start, ready, live = (_budget_s(container[name]) for name in PROBES)
        assert ready < live, workload.name
        assert live >= 60, workload.name
        assert start >= live, workload.name


def test_gateways_that_share_what_they_need_do_not_all_go_at_once(stack: list[Manifest]) -> None:
    (gateway,) = (container for each, container in _probed(stack) if each.component == "gateway")
    several = "BREAKEVEN_DATABASE_URL" in environment(gateway)
    paths = {name: gateway[name]["httpGet"]["path"] for name in PROBES}
    # Alone, it is ready when all is there. With others it must have been once, and says itself what is missing later.
    once, later = ("/readyz", "/livez") if several else ("/livez", "/readyz")
    assert paths == {"startupProbe": once, "readinessProbe": later, "livenessProbe": "/livez"}
    assert not several or _budget_s(gateway["startupProbe"]) > _settings(stack).engine.startup_timeout_s


def test_every_grace_period_covers_an_orderly_end(stack: list[Manifest]) -> None:
    settings = _settings(stack)
    for workload, container in _probed(stack):
        grace_s = workload.spec["terminationGracePeriodSeconds"]
        stop_s = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        drain_s = 0.0
        if workload.component == "gateway":
            drain_s = settings.server.shutdown_s
            # The Service forgets the pod before it stops listening.
            assert stop_s >= 5
        if workload.component == "engine":
            drain_s = int(_value(container, "--shutdown-timeout"))
            # By then no router sends to it any more (Envoy asks the DNS every 2 s).
            assert stop_s >= 15
            assert drain_s > 0
        if workload.component == "router":
            # It ends at once when told: the longest answer must be through by then.
            assert stop_s > settings.engine.request_timeout_s
        assert grace_s > stop_s + drain_s + TEARDOWN_S, workload.name


def test_nobody_gives_up_before_the_engine_has_loaded(stack: list[Manifest]) -> None:
    (engine,) = (container for each, container in _probed(stack) if each.component == "engine")
    waits_s = _settings(stack).engine.startup_timeout_s
    assert waits_s > _budget_s(engine["startupProbe"])
    for name in ("gateway", "engine"):
        if deployment := of_kind(stack, "Deployment").get(name):
            assert deployment["spec"]["progressDeadlineSeconds"] > waits_s


def test_a_rollout_needs_no_gpu_that_is_not_there(stack: list[Manifest]) -> None:
    if engine := of_kind(stack, "Deployment").get("engine"):
        assert engine["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
        # With others, the next one goes only when the router has found the new one: it looks every 2 s, and checks it.
        alone = not of_kind(stack, "PodDisruptionBudget").get("engine")
        assert alone or engine["spec"]["minReadySeconds"] >= 10
    for each in of_kind(stack, "LeaderWorkerSet").values():
        rollout = each["spec"]["rolloutStrategy"]["rollingUpdateConfiguration"]
        assert rollout == {"maxSurge": 0, "maxUnavailable": 1}


@pytest.mark.parametrize("name", ["gateway", "router"])
def test_a_rollout_of_what_needs_none_loses_no_pod(stack: list[Manifest], name: str) -> None:
    deployment = of_kind(stack, "Deployment").get(name)
    if deployment is not None and deployment["spec"]["strategy"]["type"] != "Recreate":
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
