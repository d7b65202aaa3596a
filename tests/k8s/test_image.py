"""The Dockerfile against repository and manifests. Building it needs a container engine; reading it does not."""

import re
import shlex
import tomllib
from pathlib import Path

from serving.sections import Settings
from tests.k8s.manifests import K8S, STACKS, Manifest, containers, pod

ROOT = K8S.parent
GUIDE = ROOT / "docs" / "kubernetes.md"
FINAL_STAGE = 1


def _instructions(stage: int) -> list[list[str]]:
    text = (K8S / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in text.splitlines()]
    starts = [number for number, words in enumerate(lines) if words[:1] == ["FROM"]]
    end = starts[stage + 1] if stage + 1 < len(starts) else len(lines)
    return [words for words in lines[starts[stage] : end] if words]


def _copied(stage: int) -> dict[str, str]:
    """Source -> destination of what comes from the repository."""
    copies = [words[1:] for words in _instructions(stage) if words[0] == "COPY" and not words[1].startswith("--")]
    return {source: words[-1] for words in copies for source in words[:-1]}


def test_it_copies_every_package_and_nothing_that_is_not_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    ours = {package.partition(".")[0] for package in project["packages"]}
    assert ours <= set(_copied(0))
    ignored = (K8S / "Dockerfile.dockerignore").read_text().splitlines()
    for source in (*_copied(0), *_copied(FINAL_STAGE)):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in ignored


def test_the_documents_are_where_the_configuration_looks(settings: Settings) -> None:
    for source in settings.knowledge.values():
        assert {str(path) for path in source.paths} <= set(_copied(FINAL_STAGE).values())


def test_user_command_and_name_are_those_of_the_manifest(manifests: list[Manifest]) -> None:
    spec = pod(manifests, "gateway")
    (user,) = (words[1] for words in _instructions(FINAL_STAGE) if words[0] == "USER")
    assert user == f"{spec['securityContext']['runAsUser']}:{spec['securityContext']['runAsGroup']}"
    build = "docker build -f k8s/Dockerfile -t {} ."
    for container in containers(spec).values():
        assert build.format(container["image"]) in GUIDE.read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert {container["image"].partition(":")[2] for container in containers(spec).values()} == {version}


def test_base_images_are_pinned() -> None:
    for stage in (0, FINAL_STAGE):
        image = _instructions(stage)[0][1]
        assert image.partition(":")[2][:1].isdigit(), image


def test_what_the_guide_names_exists() -> None:
    named = set(re.findall(r"\bk8s/[\w./-]+\w", GUIDE.read_text()))
    assert {"k8s/base/namespace.yaml", "k8s/Dockerfile", *(f"k8s/overlays/{name}" for name in STACKS)} <= {
        *named,
        # In the table by its name alone.
        "k8s/overlays/multi-node",
        "k8s/overlays/scale-out-inference",
    }
    for name in named:
        assert Path(ROOT / name).exists(), name
