"""The recipe of a job: the `tuning` settings with what the client chose, as the file that the trainer reads."""

import json
from collections.abc import Mapping
from pathlib import Path

from serving.sections import Tuning
from serving.tuning.job import Wanted


def recipe_of(name: str, wanted: Wanted, settings: Tuning, *, gpu: bool) -> dict[str, str | int | float]:
    """Keys as in recipe.toml."""
    asked = wanted.hyperparameters
    stated: dict[str, str | int | float] = {
        "name": name,
        "data": "train.jsonl",
        "r": settings.r,
        "alpha": settings.alpha,
        "target_modules": "all-linear",
        "learning_rate": settings.learning_rate * (asked.learning_rate_multiplier or 1.0),
        "epochs": asked.n_epochs or settings.epochs,
        "batch_size": asked.batch_size or settings.batch_size,
        "max_length": settings.max_length,
        "seed": wanted.seed,
        "dtype": "bfloat16" if gpu else "float32",
    }
    return stated | ({"validation": "validation.jsonl"} if wanted.validation_file is not None else {})


def write_recipe(path: Path, stated: Mapping[str, str | int | float]) -> None:
    """As TOML, whose strings and numbers are written as JSON's are."""
    lines = [f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in stated.items()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
