"""The support desk's router: its adapter, its data and the configuration belong together."""

import json
import re
from pathlib import Path

import yaml

from adapters.dataset import load_chat
from adapters.manifest import sha256_of
from adapters.recipe import load_recipe
from adapters.registry import Registry

ROOT = Path(__file__).parents[2]
ROUTER = ROOT / "examples" / "router"


def test_the_adapter_was_trained_on_this_data(tmp_path: Path) -> None:
    installed = Registry(tmp_path).install(ROUTER / "adapter")
    assert installed.name == "router"
    assert installed.manifest.data_sha256 == sha256_of(ROUTER / "train.jsonl")


def test_its_labels_are_those_that_the_configuration_routes() -> None:
    models = yaml.safe_load((ROOT / "breakeven.yaml").read_text())["models"]
    router = models["helpdesk"]["router"]
    recipe = load_recipe(ROUTER / "recipe.toml")
    rows = [json.loads(line)["messages"] for line in (ROUTER / "train.jsonl").read_text().splitlines()]
    assert {row[-1]["content"] for row in rows} == set(router["labels"])
    assert all(re.fullmatch(recipe.format or "", label) for label in router["labels"])
    # The classifier is asked as it was trained.
    assert {row[0]["content"] for row in rows} == {models[router["model"]]["system_prompt"]}


def test_no_question_is_in_training_and_validation() -> None:
    train = {each.messages[1].content.casefold() for each in load_chat(ROUTER / "train.jsonl", "assistant").examples}
    held = {
        each.messages[1].content.casefold() for each in load_chat(ROUTER / "validation.jsonl", "assistant").examples
    }
    assert len(held) == 50
    assert not train & held
