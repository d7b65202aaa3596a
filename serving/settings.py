"""All settings: `breakeven.yaml` overlaid by `BREAKEVEN_*` variables, one frozen tree.

No other module reads the environment.
`BREAKEVEN_ENGINE__MAX_MODEL_LEN=4096` sets `engine.max_model_len`. An unknown key, in the file or in the environment,
stops the start and names the nearest key, because a setting that is silently ignored is worse than none.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import ValidationError

from serving.section import Section
from serving.sections import Settings

PREFIX = "BREAKEVEN_"
# Not settings of the tree: where it lives, and the key the command line sends.
_SPECIAL = frozenset({"BREAKEVEN_HOME", "BREAKEVEN_CONFIG", "BREAKEVEN_API_KEY"})

_OMP_WAIT, _OMP_SLEEP = "OMP_WAIT_POLICY", "PASSIVE"


class SettingsError(Exception):
    """The configuration cannot be used; the message names the key and the mend."""


def load_settings(
    config: Path | None = None, environ: Mapping[str, str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Settings:
    """Read `config` (default BREAKEVEN_CONFIG, then ./breakeven.yaml if there is one), then the environment, then
    `overrides` (dotted keys from the command line). Raises SettingsError."""
    environ = os.environ if environ is None else environ
    path = config or _config_path(environ)
    tree = _read_file(path)
    for variable, value in sorted(environ.items()):
        if variable.startswith(PREFIX) and variable not in _SPECIAL:
            _put(tree, variable[len(PREFIX) :].lower().split("__"), _from_variable(variable, value), variable)
    if home := environ.get("BREAKEVEN_HOME"):
        tree["home"] = home
    for key, value in (overrides or {}).items():
        if value is not None:
            _put(tree, key.split("."), value, key)
    try:
        settings = Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None
    return settings if path is None else _anchored(settings, path.parent)


def client_api_key(environ: Mapping[str, str] | None = None) -> str | None:
    """The key that the command line sends to a gateway (`BREAKEVEN_API_KEY`)."""
    return (os.environ if environ is None else environ).get("BREAKEVEN_API_KEY")


def share_cores() -> None:
    """Let OpenMP threads of this process sleep while they wait; call it before torch is loaded.

    By default they spin, which takes the cores from the engine beside us, or from the other threads of a training.
    """
    os.environ.setdefault(_OMP_WAIT, _OMP_SLEEP)


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment for a child process, with `extra` on top. How we wait is not passed on: an engine may spin."""
    ours = {name: value for name, value in os.environ.items() if (name, value) != (_OMP_WAIT, _OMP_SLEEP)}
    return {**ours, **extra}


def describe() -> list[tuple[str, str, str]]:
    """Every setting as (dotted key, default, description), for the documentation."""
    return list(_describe(Settings, ""))


def _anchored(settings: Settings, folder: Path) -> Settings:
    # Paths in a file mean the file's own folder, wherever the command is run.
    knowledge = {
        name: source.model_copy(update={"paths": tuple(folder / path for path in source.paths)})
        for name, source in settings.knowledge.items()
    }
    adapters = tuple(folder / path for path in settings.adapters)
    return settings.model_copy(update={"adapters": adapters, "knowledge": knowledge})


def _config_path(environ: Mapping[str, str]) -> Path | None:
    if chosen := environ.get("BREAKEVEN_CONFIG"):
        return Path(chosen)
    default = Path("breakeven.yaml")
    return default if default.is_file() else None


def _read_file(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}; check BREAKEVEN_CONFIG or --config") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise SettingsError(f"{path} must hold settings as `key: value`, not a {type(tree).__name__}")
    return tree


def _from_variable(variable: str, value: str) -> Any:
    # Text stays text (a key of digits, a date) until the setting's own type reads it; only lists and maps are YAML.
    if not value.startswith(("[", "{")):
        return value
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingsError(f"{variable} is not a valid list or map: {error}") from None


def _put(tree: dict[str, Any], path: Iterable[str], value: Any, shown: str) -> None:
    *parents, last = path
    for parent in parents:
        below = tree[parent] = {} if tree.get(parent) is None else tree[parent]
        if not isinstance(below, dict):
            raise SettingsError(f"{shown}: {parent} is not a section")
        tree = below
    tree[last] = value


def _explain(error: ValidationError) -> str:
    return "\n".join(_explain_one(dict(item)) for item in error.errors())


def _explain_one(item: Mapping[str, Any]) -> str:
    location = [str(part) for part in item["loc"]]
    key = ".".join(location)
    if item["type"] != "extra_forbidden":
        # A message may end up in a log or a screenshot; a secret must not.
        got = "" if location[-1].endswith(("key", "_url")) else f" (got {item['input']!r})"
        return f"setting {key}: {item['msg']}{got}"
    known = [name for name, _, _ in describe()]
    wildcard = ".".join([location[0], "*", *location[2:]]) if location[0] in ("models", "knowledge", "tenants") else key
    near = difflib.get_close_matches(wildcard, [*known, *Settings.model_fields], n=1, cutoff=0.5)
    near = near or difflib.get_close_matches(location[-1], [name.rpartition(".")[2] for name in known], n=1)
    hint = f"; did you mean {near[0].replace('*', location[1]) if '*' in near[0] else near[0]}?" if near else ""
    return f"unknown setting {key}{hint} (all settings: docs/settings.md)"


def _describe(section: type[Section], prefix: str) -> Iterable[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        inner = next((arg for arg in get_args(field.annotation) if _is_section(arg)), field.annotation)
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _describe(
                inner, f"{prefix}{name}.*." if get_origin(field.annotation) is dict else f"{prefix}{name}."
            )
        else:
            default = None if field.is_required() else field.get_default(call_default_factory=True)
            required = "Required. " if field.is_required() else ""
            yield f"{prefix}{name}", "" if default is None else str(default), required + (field.description or "")


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
