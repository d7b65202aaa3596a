"""`breakeven adapters rewrite`: what it prints is a valid InferenceModelRewrite, and says what the registry says."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from adapters.aliases import CANARY, PROD
from adapters.audit import Cause
from adapters.errors import UnknownAdapter, UnsafeAdapter
from adapters.registry import Registry
from breakeven.versions import app
from serving.rollout.rewrite import rewrite, share_of
from serving.sections import ServedModel
from tests.k8s.custom_resources import check
from tests.k8s.manifests import STACKS, Manifest, kubectl, of_kind, rendered
from tests.serving.adapter_folders import installed

CAUSE = Cause(who="a test", reason="")
GROUPS = ("inference.networking.x-k8s.io", "llm-d.ai")


def printed(home: Path, *arguments: str) -> Manifest:
    file = home / "breakeven.yaml"
    served = {"tone": {"adapter": "tone", "canary": {"share": 0.25}}, "pinned": {"adapter": "tone@" + "0" * 12}}
    settings = {"home": str(home), "engine": {"kind": "simulated"}, "models": served}
    file.write_text(yaml.safe_dump(settings))
    result = CliRunner().invoke(app, ["rewrite", "tone", "--config", str(file), *arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: Manifest = yaml.safe_load(result.output)
    return found


@pytest.mark.parametrize("group", GROUPS)
def test_a_canary_becomes_weights(tmp_path: Path, group: str) -> None:
    prod, canary = installed(tmp_path, [1, 2])
    Registry(tmp_path / "adapters").promote("tone", canary.version, CANARY, CAUSE)
    found = printed(tmp_path, "--group", group)
    check(found)
    assert found["apiVersion"] == f"{group}/v1alpha2"
    (rule,) = found["spec"]["rules"]
    assert rule["matches"] == [{"model": {"type": "Exact", "value": "tone"}}]
    targets = {target["modelRewrite"]: target["weight"] for target in rule["targets"]}
    assert targets == {prod.engine_name: 750, canary.engine_name: 250}


def test_without_a_canary_all_go_to_prod_and_a_promoted_one_takes_its_place(tmp_path: Path) -> None:
    first, second = installed(tmp_path, [1, 2])
    assert [each["modelRewrite"] for each in targets_of(printed(tmp_path))] == [first.engine_name]
    Registry(tmp_path / "adapters").promote("tone", second.version, PROD, CAUSE)
    assert targets_of(printed(tmp_path)) == [{"modelRewrite": second.engine_name, "weight": 1000}]


def targets_of(manifest: Manifest) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = manifest["spec"]["rules"][0]["targets"]
    return found


@pytest.mark.parametrize(("share", "weights"), [(0.0004, [999, 1]), (0.5, [500, 500]), (0.9999, [1, 999])])
def test_every_weight_is_one_that_the_kind_takes(share: float, weights: list[int]) -> None:
    found = rewrite("tone", {PROD: "a", CANARY: "b"}, share, "engine", "llm-d.ai")
    check(found)
    assert [each["weight"] for each in targets_of(found)] == weights


def test_its_pool_and_the_right_to_read_it_are_in_the_overlay(tmp_path: Path) -> None:
    command = kubectl()
    if command is None:
        pytest.skip("NOT TESTED: kubectl is not on PATH")
    installed(tmp_path, [1])
    manifest = printed(tmp_path)
    overlay = rendered(command, STACKS["scale-out-inference"])
    assert list(of_kind(overlay, "InferencePool")) == [manifest["spec"]["poolRef"]["name"]]
    group = manifest["apiVersion"].partition("/")[0]
    rules = [rule for each in of_kind(overlay, "Role").values() for rule in each["rules"]]
    assert any("inferencemodelrewrites" in rule["resources"] and group in rule["apiGroups"] for rule in rules)


def test_what_cannot_be_said_in_one_rule_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownAdapter, match="no prod version"):
        rewrite("tone", {CANARY: "b"}, 0.1, "engine", "llm-d.ai")
    two = [ServedModel.model_validate({"adapter": "tone", "canary": {"share": share}}) for share in (0.1, 0.2)]
    with pytest.raises(UnsafeAdapter, match="--share"):
        share_of("tone", two)
    assert share_of("tone", two[1:]) == 0.2
    assert share_of("other", two) == 0.1
    installed(tmp_path, [1])
    result = CliRunner().invoke(app, ["rewrite", "tone", "--group", "example.org"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["poolRef", "names"], "engine"),
        (["rules", 0, "targets", 0, "weight"], 0),
        (["rules", 0, "targets", 0, "model"], "x"),
        (["rules", 0, "matches", 0, "model", "type"], "Prefix"),
    ],
)
def test_the_schema_refuses_what_the_kind_does_not_have(path: list[Any], value: object) -> None:
    broken = copy.deepcopy(rewrite("tone", {PROD: "a", CANARY: "b"}, 0.1, "engine", "llm-d.ai"))
    inner: Any = broken["spec"]
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        check(broken)
