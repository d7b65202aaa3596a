"""What the manifests of k8s/ allow: numbers of replicas, cores, disks, connections. Read from them, never repeated."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks.errors import ModelError

MANIFESTS = Path(__file__).resolve().parents[2] / "k8s"
# PostgreSQL's own default, where the manifest says nothing.
_CONNECTIONS = 100
# A gateway's pools at their largest: retrieval, budgets, records; and the records' turns, the keys' follower, the
# ledger's writer, and one who reads it.
_POOLS = (24, 8, 8, 1, 1, 1, 1)
_UNITS = {"Mi": 1 / 1024, "Gi": 1.0, "Ti": 1024.0}


@dataclass(frozen=True, slots=True)
class Installed:
    """The overlay `scale-out`. Cores are what pods request; gibibytes are Chroma's limit and the database's volume."""

    engines: int
    gateways: int
    gateway_cores: float
    chroma_cores: float
    chroma_gib: float
    database_gib: float
    connections: int
    connections_per_gateway: int = sum(_POOLS)


def installed(folder: Path = MANIFESTS) -> Installed:
    """Of the components. ModelError when a manifest has changed beyond recognition."""
    try:
        gateway = _container(_only(folder / "base" / "gateway.yaml", "Deployment"), "gateway")
        chroma = _only(folder / "components" / "chroma" / "chroma.yaml", "StatefulSet")
        postgres = _only(folder / "components" / "postgres" / "postgres.yaml", "StatefulSet")
        served, database = _container(chroma, "chroma"), _container(postgres, "postgres")
        (claim,) = postgres["spec"]["volumeClaimTemplates"]
        keda = folder / "components" / "keda"
        return Installed(
            engines=int(_only(keda / "engine.yaml", "ScaledObject")["spec"]["maxReplicaCount"]),
            gateways=int(_only(keda / "gateway.yaml", "ScaledObject")["spec"]["maxReplicaCount"]),
            gateway_cores=_cores(gateway["resources"]["requests"]["cpu"]),
            chroma_cores=_cores(served["resources"]["requests"]["cpu"]),
            chroma_gib=_gib(served["resources"]["limits"]["memory"]),
            database_gib=_gib(claim["spec"]["resources"]["requests"]["storage"]),
            connections=_connections(database),
        )
    except (OSError, KeyError, ValueError, StopIteration) as error:
        raise ModelError(f"the manifests in {folder.name} are not those that the plan knows ({error!r})") from error


def _documents(path: Path) -> Iterator[Mapping[str, Any]]:
    yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def _only(path: Path, kind: str) -> Mapping[str, Any]:
    return next(document for document in _documents(path) if document["kind"] == kind)


def _container(workload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    containers = workload["spec"]["template"]["spec"]["containers"]
    found: Mapping[str, Any] = next(each for each in containers if each["name"] == name)
    return found


def _connections(container: Mapping[str, Any]) -> int:
    found = re.search(r"max_connections=(\d+)", " ".join(container.get("args", ())))
    return int(found[1]) if found else _CONNECTIONS


def _cores(quantity: str) -> float:
    return float(quantity.removesuffix("m")) / 1000 if quantity.endswith("m") else float(quantity)


def _gib(quantity: str) -> float:
    return float(quantity[:-2]) * _UNITS[quantity[-2:]]
