"""The recipe of a training run: recipe.toml, read once, checked before the first step.

Its keys and what a good value looks like are explained where users meet them: examples/support/recipe.toml.
"""

import difflib
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError

from adapters.errors import MalformedRecipe
from adapters.manifest import NAME_PATTERN


def _is_regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return text


Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """File names are relative to the recipe; lengths are in tokens; `format` is what a trained answer must match."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    data: str
    heldout: str
    format: Annotated[str, AfterValidator(_is_regex)]
    r: Annotated[int, Field(ge=1, le=512)]
    alpha: Count
    target_modules: Literal["all-linear"] | list[str]
    learning_rate: Positive
    epochs: Positive
    batch_size: Count
    max_length: Count
    max_answer: Count
    seed: int
    dtype: Literal["float32", "bfloat16"]


_RECIPE = TypeAdapter(Recipe)


def load_recipe(path: Path) -> Recipe:
    """Raises MalformedRecipe that names every wrong key, and the nearest known one for an unknown key."""
    try:
        stated = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise MalformedRecipe(f"{path} cannot be read ({error.strerror}): give a folder with a recipe.toml") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MalformedRecipe(f"{path} is not TOML: {error}") from None
    try:
        return _RECIPE.validate_python(stated)
    except ValidationError as error:
        wrong = "\n".join(f"  {_explain(list(item['loc']), item['msg'])}" for item in error.errors())
        raise MalformedRecipe(f"{path.name}: correct these keys, then run again\n{wrong}") from None


def _explain(where: list[int | str], message: str) -> str:
    key = str(where[0])
    if message == "Unexpected keyword argument":
        near = difflib.get_close_matches(key, Recipe.__dataclass_fields__, n=1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    return f"{key}: {message}"
