"""Everything that decides what a training run gives, read and checked before torch is loaded.

Two runs with the same fingerprint are the same run: a checkpoint of the one continues the other.
"""

import hashlib
import json
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from adapters.dataset import Dataset, load_chat
from adapters.manifest import BaseModel, DataRole, DataVersion, base_fingerprint
from adapters.recipe import Recipe, load_recipe

LIBRARIES = ("torch", "transformers", "peft", "trl")


@dataclass(frozen=True, slots=True)
class Plan:
    """A recipe with its data sets and its base model."""

    recipe: Recipe
    base: BaseModel
    base_dir: Path
    train: Dataset
    validation: Dataset | None
    heldout: Dataset | None

    @property
    def data(self) -> tuple[DataVersion, ...]:
        """The data sets, for the manifest."""
        sets: tuple[tuple[DataRole, Dataset | None], ...] = (
            ("train", self.train),
            ("validation", self.validation),
            ("heldout", self.heldout),
        )
        return tuple(
            DataVersion(role=role, name=data.path.name, sha256=data.sha256, examples=len(data.examples))
            for role, data in sets
            if data is not None
        )

    @property
    def libraries(self) -> dict[str, str]:
        """The versions that the result depends on."""
        return {name: version(name) for name in LIBRARIES}

    @property
    def fingerprint(self) -> str:
        """12 hex digits over recipe, data, base model and libraries; not over where they are."""
        parts = (self.recipe.stated(), self.base.sha256, [data.sha256 for data in self.data], self.libraries)
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def make_plan(recipe_path: Path, base_dir: Path) -> Plan:
    """Read `recipe_path` (recipe.toml, or the folder it is in) and what it names. Raises AdapterError."""
    path = recipe_path / "recipe.toml" if recipe_path.is_dir() else recipe_path
    recipe = load_recipe(path)
    return Plan(
        recipe=recipe,
        train=load_chat(path.parent / recipe.data, last="assistant"),
        validation=load_chat(path.parent / recipe.validation, last="assistant") if recipe.validation else None,
        heldout=load_chat(path.parent / recipe.heldout, last="user") if recipe.heldout else None,
        base=base_fingerprint(base_dir),
        base_dir=base_dir,
    )
