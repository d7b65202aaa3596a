"""Reads k8s/monitoring: the rules and the dashboards, and every PromQL expression in them."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.k8s.manifests import K8S

MONITORING = K8S / "monitoring"
RULES = sorted((MONITORING / "rules").glob("*.yaml"))
DASHBOARDS = sorted((MONITORING / "dashboards").glob("*.json"))
NO_PROMETHEUS = (
    "prometheus and promtool are not on PATH (`apt-get install prometheus`, no service needed; .ci/run does it)"
)

Panel = dict[str, Any]


@dataclass(frozen=True)
class Query:
    """An expression and where it stands."""

    where: str
    expr: str


def program(name: str) -> str:
    """Path of `prometheus` or `promtool`; the test is skipped, and says so, where there is none."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"NOT TESTED: {NO_PROMETHEUS}")
    return found


def groups() -> list[dict[str, Any]]:
    """The rule groups of all files."""
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def rules(kind: str) -> dict[str, dict[str, Any]]:
    """Rules by name: of kind `alert` or `record`."""
    return {rule[kind]: rule for group in groups() for rule in group["rules"] if kind in rule}


def rule_queries() -> list[Query]:
    """The expressions of all rules."""
    return [Query(name, rule["expr"]) for kind in ("alert", "record") for name, rule in rules(kind).items()]


def dashboard(path: Path) -> dict[str, Any]:
    """One dashboard."""
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def panels(path: Path) -> Iterator[Panel]:
    """All panels that show something; rows are none."""
    for panel in dashboard(path)["panels"]:
        for each in (panel, *panel.get("panels", ())):
            if each["type"] not in ("row", "text"):
                yield each


def panel_queries() -> list[Query]:
    """The expressions of all panels."""
    return [
        Query(f"{panel['title']} {target['refId']}", target["expr"])
        for path in DASHBOARDS
        for panel in panels(path)
        for target in panel["targets"]
    ]


def annotation_queries() -> list[Query]:
    """The expressions that mark moments; most of the time they are empty."""
    found = [each for path in DASHBOARDS for each in dashboard(path)["annotations"]["list"]]
    return [Query(each["name"], each["expr"]) for each in found]
