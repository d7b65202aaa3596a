"""Every check runs over the manifests as written and, where kubectl is there, as rendered."""

import shutil
from pathlib import Path

import pytest

from serving.sections import Settings
from serving.settings import load_settings
from tests.k8s.manifests import (
    STACKS,
    TRAINING,
    Manifest,
    containers,
    environment,
    kubectl,
    of_kind,
    plain,
    pod,
    rendered,
)
from tests.k8s.monitoring import NO_PROMETHEUS

_NOT_RENDERED = "overlays were NOT rendered: kubectl is not on PATH; only k8s/base as written was checked"


@pytest.fixture(scope="session", params=["plain", "rendered"])
def manifests(request: pytest.FixtureRequest) -> list[Manifest]:
    if request.param == "plain":
        return plain()
    command = kubectl()
    if command is None:
        pytest.skip(_NOT_RENDERED)
    return rendered(command)


@pytest.fixture(scope="session", params=[*STACKS, "training-job"])
def whole(request: pytest.FixtureRequest) -> list[Manifest]:
    """Everything that one command applies."""
    command = kubectl()
    if command is None:
        pytest.skip(_NOT_RENDERED)
    return rendered(command, STACKS.get(request.param, TRAINING))


@pytest.fixture(scope="session", params=STACKS)
def stack(request: pytest.FixtureRequest) -> list[Manifest]:
    """One overlay."""
    command = kubectl()
    if command is None:
        pytest.skip(_NOT_RENDERED)
    return rendered(command, STACKS[request.param])


@pytest.fixture
def settings(manifests: list[Manifest], tmp_path: Path) -> Settings:
    """As the gateway's container loads them: the generated file, overlaid by the container's environment."""
    (generated,) = of_kind(manifests, "ConfigMap").values()
    file = tmp_path / "breakeven.yaml"
    file.write_text(generated["data"]["breakeven.yaml"])
    return load_settings(file, environment(containers(pod(manifests, "gateway"))["gateway"]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # A skipped test is one letter in the output; that is too quiet for a check that CI believes it has.
    if kubectl() is None:
        terminalreporter.write_line(f"WARNING: {_NOT_RENDERED}", yellow=True)
    if shutil.which("promtool") is None or shutil.which("prometheus") is None:
        terminalreporter.write_line(f"WARNING: rules and dashboards were NOT TESTED: {NO_PROMETHEUS}", yellow=True)
