"""Everything that can go wrong with an adapter, as one tree, so that the command line and the gateway map it once.

Each message says what to do next: these are the user's mistakes or damaged files, never a bug to show a traceback for.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_SHOWN = 20


class AdapterError(Exception):
    """The root; str(error) is the whole message for the user."""


class MalformedData(AdapterError):
    """A JSONL data set has bad lines; `problems` holds (line number from 1, what is wrong) for every one of them."""

    def __init__(self, path: Path, problems: Sequence[tuple[int, str]]) -> None:
        self.problems = tuple(problems)
        shown = [f"  line {number}: {why}" for number, why in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            shown.append(f"  ... and {len(problems) - _SHOWN} more")
        lines = "1 line" if len(problems) == 1 else f"{len(problems)} lines"
        super().__init__("\n".join([f"{path.name}: {lines} to correct, then run again", *shown]))


class MalformedRecipe(AdapterError):
    """recipe.toml is missing, is not TOML, or holds an unknown key or an impossible value."""


class MalformedManifest(AdapterError):
    """manifest.json is missing, is not JSON, or does not have exactly the fields of `Manifest`."""


class UnsafeAdapter(AdapterError):
    """A folder holds something an adapter must not: pickles, links, unexpected files, an unusable config."""


class TamperedAdapter(AdapterError):
    """The files no longer hash to the version that their manifest or their place in the registry states."""


class UnknownAdapter(AdapterError):
    """No such adapter, version or alias is installed."""


class WrongBase(AdapterError):
    """The adapter was trained on another base model than the one at hand."""


class PromotionRefused(AdapterError):
    """The version misses a threshold of a served model; `findings` holds what was wanted and what was seen."""

    def __init__(self, message: str, findings: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)


class VersionInUse(AdapterError):
    """The version is what an alias or a served model means."""


class MissingBase(AdapterError):
    """The folder is not a base model checkpoint in safetensors."""


class OutputExists(AdapterError):
    """Training would overwrite a folder that is already there."""
