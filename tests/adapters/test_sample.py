"""The adapter that the project ships is what its manifest says, small enough, and good at what it was trained for."""

import json
import re
from pathlib import Path

import pytest

from adapters.dataset import load_chat
from adapters.manifest import ADAPTER_FILES, CONFIG, Manifest
from adapters.recipe import load_recipe
from adapters.registry import Registry
from adapters.scoring import has_format

SAMPLE = Path(__file__).parents[2] / "examples" / "support"
ADAPTER = SAMPLE / "adapter"
MOST_BYTES = 6_000_000


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return Manifest.read(ADAPTER)


def test_it_installs_and_is_small(tmp_path: Path) -> None:
    installed = Registry(tmp_path).install(ADAPTER)
    assert installed.name == "support" and installed.rank == 8
    assert sum((ADAPTER / name).stat().st_size for name in ADAPTER_FILES) <= MOST_BYTES


def test_it_was_trained_from_the_data_and_recipe_beside_it(manifest: Manifest) -> None:
    recipe = load_recipe(SAMPLE / "recipe.toml")
    assert manifest.data_sha256 == load_chat(SAMPLE / recipe.data, last="assistant").sha256
    assert manifest.recipe == recipe.stated()
    assert manifest.command == "breakeven train examples/support"


def test_it_names_the_base_model_and_no_path(manifest: Manifest) -> None:
    config = json.loads((ADAPTER / CONFIG).read_text())
    assert config["base_model_name_or_path"] == manifest.base_model == "smollm2-135m-instruct"
    assert not re.search(r'"(/|[A-Za-z]:\\\\)', (ADAPTER / CONFIG).read_text() + manifest.to_json())


def test_it_gained_the_format_on_nine_of_ten_heldout_questions(manifest: Manifest) -> None:
    gained = next(score for score in manifest.scores if score.name == "format_gained")
    assert gained.n == len(load_chat(SAMPLE / "heldout.jsonl", last="user").examples) == 50
    assert gained.value >= 0.9
    assert gained.low <= gained.value <= gained.high


def test_every_training_answer_has_the_format_and_no_question_is_held_out() -> None:
    recipe = load_recipe(SAMPLE / "recipe.toml")
    assert recipe.heldout is not None and recipe.format is not None
    pattern = recipe.format
    trained = load_chat(SAMPLE / recipe.data, last="assistant").examples
    heldout = load_chat(SAMPLE / recipe.heldout, last="user").examples
    assert [each.line for each in trained if not has_format(pattern, each.messages[-1].content)] == []
    questions = [each.messages[-2].content.casefold() for each in trained]
    assert len(set(questions)) == len(questions)
    assert not set(questions) & {each.messages[-1].content.casefold() for each in heldout}
