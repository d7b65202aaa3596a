"""The recipe of a training run: recipe.toml, read once, checked before the first step.

Its keys and what a good value looks like are explained where users meet them: examples/support/recipe.toml.
"""

import difflib
import re
import tomllib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

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
    """File names are relative to the recipe; lengths are in tokens; `format` is what a trained answer must match.

    `heldout`, `format` and `max_answer` belong together: without them the adapter is trained and not scored.
    `packing` puts several examples into one sequence of `max_length`; `quantization` is that of the base (QLoRA).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    data: str
    validation: str | None = None
    heldout: str | None = None
    format: Annotated[str, AfterValidator(_is_regex)] | None = None
    r: Annotated[int, Field(ge=1, le=512)]
    alpha: Count
    target_modules: Literal["all-linear"] | list[str]
    learning_rate: Positive
    epochs: Positive
    batch_size: Count
    max_length: Count
    max_answer: Count | None = None
    seed: int
    dtype: Literal["float32", "bfloat16"]
    packing: bool = False
    quantization: Literal["none", "4bit"] = "none"

    def stated(self) -> dict[str, JsonValue]:
        """Every key but those left at their default, so that a new key changes no old manifest."""
        values = {each.name: (getattr(self, each.name), each.default) for each in fields(self)}
        return {name: value for name, (value, default) in values.items() if default is MISSING or value != default}


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
        recipe = _RECIPE.validate_python(stated)
    except ValidationError as error:
        wrong = "\n".join(f"  {_explain(list(item['loc']), item['msg'])}" for item in error.errors())
        raise MalformedRecipe(f"{path.name}: correct these keys, then run again\n{wrong}") from None
    if len({value is None for value in (recipe.heldout, recipe.format, recipe.max_answer)}) > 1:
        raise MalformedRecipe(
            f"{path.name}: heldout, format and max_answer score an adapter together: give all or none"
        )
    return recipe


def _explain(where: list[int | str], message: str) -> str:
    key = str(where[0])
    if message == "Unexpected keyword argument":
        near = difflib.get_close_matches(key, Recipe.__dataclass_fields__, n=1)
        return f"{key}: unknown key" + (f"; did you mean {near[0]}?" if near else "")
    return f"{key}: {message}"
