"""A recipe's mistakes are named before anything is trained."""

from pathlib import Path

import pytest

from adapters.errors import MalformedRecipe
from adapters.recipe import load_recipe

SAMPLE = Path(__file__).parents[2] / "examples" / "support" / "recipe.toml"


def changed(tmp_path: Path, old: str, new: str) -> Path:
    text = SAMPLE.read_text()
    assert old in text
    path = tmp_path / "recipe.toml"
    path.write_text(text.replace(old, new))
    return path


def test_the_sample_recipe() -> None:
    recipe = load_recipe(SAMPLE)
    assert recipe.name == "support"
    assert recipe.target_modules == "all-linear"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate", "learning_rat", r"learning_rat: unknown key; did you mean learning_rate\?"),
        ('name = "support"', 'name = "../support"', "name: "),
        ('name = "support"', "", "name: "),
        ("\nr = ", "\nr = -", "r: "),
        ('dtype = "', 'dtype = "x', "dtype: "),
        ("format = '''", "format = '''(", "format: "),
        ('name = "support"', "name = ", "not TOML"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(MalformedRecipe, match=message):
        load_recipe(changed(tmp_path, old, new))


def test_scoring_keys_belong_together_and_defaults_are_not_stated(tmp_path: Path) -> None:
    with pytest.raises(MalformedRecipe, match="give all or none"):
        load_recipe(changed(tmp_path, "max_answer = 120", ""))
    unscored = changed(tmp_path, "max_answer = 120", "")
    lines = [line for line in unscored.read_text().splitlines() if not line.startswith(("heldout", "format"))]
    unscored.write_text("\n".join([*lines, "packing = true"]))
    stated = load_recipe(unscored).stated()
    assert stated["packing"] is True and not {"heldout", "format", "max_answer", "quantization"} & set(stated)


def test_a_missing_recipe(tmp_path: Path) -> None:
    with pytest.raises(MalformedRecipe, match=r"recipe\.toml"):
        load_recipe(tmp_path / "recipe.toml")
