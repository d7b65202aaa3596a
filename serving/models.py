"""Served models: which names clients may send, and what each binds together.

Resolved from the settings, the engine's base model and the adapter registry, at start and again when an alias changes.
An entry that cannot be served here (another base model, an adapter made for another) is left out with a line that says
why.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from adapters.aliases import CANARY, PROD
from adapters.errors import AdapterError, MissingBase
from adapters.manifest import VERSION_PATTERN, BaseModel, base_fingerprint
from adapters.registry import AdapterVersion, Registry
from serving.engine.weights import EMBEDDED_MODEL, EMBEDDED_SHA256
from serving.errors import UnknownModel
from serving.sections import ServedModel, Settings


@dataclass(frozen=True, slots=True)
class Served:
    """A served model, ready for requests. `engine_model` is the name the engine knows, `alias` what made it mean this
    version (None: it is pinned), `canary` the version on trial beside it. Without a `min_score` of its own, the
    knowledge base's calibrated one or the setting is used."""

    name: str
    engine_model: str
    adapter: AdapterVersion | None
    settings: ServedModel
    top_k: int
    min_score: float | None
    instructions: str
    alias: str | None = None
    canary: AdapterVersion | None = None

    def on_trial(self) -> "Served":
        """The same, answered by the canary."""
        if self.canary is None:
            return self
        return replace(self, engine_model=self.canary.engine_name, adapter=self.canary, alias=CANARY)


class Catalogue:
    """Served models by name. What they mean may change at any time: a request resolves its model once."""

    def __init__(self, models: Mapping[str, Served], left_out: Sequence[str], created: int, plain: Served) -> None:
        self._models = dict(models)
        # The base model and nothing else.
        self.plain = plain
        self.left_out = tuple(left_out)
        self.created = created

    def adopt(self, fresh: "Catalogue") -> None:
        """Mean what `fresh` means from now on."""
        self._models, self.left_out = fresh._models, fresh.left_out

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the configuration."""
        return tuple(self._models)

    @property
    def adapters(self) -> tuple[AdapterVersion, ...]:
        """Every adapter version that a served model needs, once."""
        both = [version for model in self._models.values() for version in (model.adapter, model.canary)]
        return tuple({version.engine_name: version for version in both if version is not None}.values())

    @property
    def served(self) -> tuple[Served, ...]:
        """All of them."""
        return tuple(self._models.values())

    def resolve(self, name: str) -> Served:
        """Raises UnknownModel."""
        try:
            return self._models[name]
        except KeyError:
            raise UnknownModel(
                f"there is no served model {name[:100]!r}; there are {', '.join(self._models)}", param="model"
            ) from None

    def describe(self, name: str) -> dict[str, object]:
        """OpenAI's model object, with what the name binds in `breakeven`. Raises UnknownModel."""
        model = self.resolve(name)
        binds: dict[str, object] = {
            "engine_model": model.engine_model,
            "adapter": model.adapter.engine_name if model.adapter else None,
            "canary": model.canary.engine_name if model.canary else None,
            "knowledge": model.settings.knowledge,
        }
        if (router := model.settings.router) is not None:
            binds["router"] = router.model_dump()
        return {"id": name, "object": "model", "created": self.created, "owned_by": "breakeven", "breakeven": binds}


def base_name(model: str) -> str:
    """The name of a base model given as hub id or path: a path becomes its last part, a hub id stays whole."""
    path = Path(model)
    return path.resolve().name if path.is_dir() else model


def identify(model: str, cache: Path) -> BaseModel | None:
    """Which base model the engine is to load, by content; None for a hub id, of which only the name is known.

    Hashing gigabytes takes minutes: the result is kept in `cache` until a file's size or time changes.
    """
    if model == EMBEDDED_MODEL:
        return BaseModel(EMBEDDED_MODEL, EMBEDDED_SHA256)
    folder = Path(model)
    if not folder.is_dir():
        return None
    files = [*sorted(folder.glob("*.safetensors")), folder / "origin.json"]
    state = [[each.name, each.stat().st_size, each.stat().st_mtime_ns] for each in files if each.is_file()]
    key, kept = str(folder.resolve()), _kept(cache)
    if key not in kept or kept[key]["state"] != state:
        try:
            found = base_fingerprint(folder)
        except MissingBase:
            return None
        kept[key] = {"state": state, "base": asdict(found)}
        cache.parent.mkdir(parents=True, exist_ok=True)
        cache.write_text(json.dumps(kept), encoding="utf-8")
    return BaseModel(**kept[key]["base"])


def _kept(cache: Path) -> dict[str, Any]:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def build_catalogue(
    settings: Settings, base: str, registry: Registry, created: int, identity: BaseModel | None = None
) -> Catalogue:
    """Resolve every configured entry against `base`, the engine's name for its base model.

    With `identity` an adapter must belong to that content; without it names must do. A plain entry under the base
    model's own name is added if the configuration has none, as vLLM itself would.
    """
    wish = settings.retrieval
    plain = Served(base, base, None, ServedModel.model_validate({}), wish.top_k, None, wish.instructions)
    models: dict[str, Served] = {}
    left_out: list[str] = []
    for name, entry in settings.models.items():
        try:
            models[name], notes = _serve(name, entry, settings, _Bound(base, identity, registry))
            left_out += [f"{name} has no canary: {note}" for note in notes]
        except _Unserved as why:
            left_out.append(f"{name} is left out: {why}")
    for name in [name for name, model in models.items() if model.settings.router is not None]:
        if needs := _misrouted(models, models[name].settings):
            left_out.append(f"{name} is left out: {needs}")
            del models[name]
    if not any(_is_plain(model) for model in models.values()):
        models[base] = plain
    return Catalogue(models, left_out, created, plain)


def _is_plain(model: Served) -> bool:
    bound = (model.adapter, model.settings.knowledge, model.settings.router)
    return all(part is None for part in bound)


def _misrouted(models: Mapping[str, Served], entry: ServedModel) -> str | None:
    """Why a router cannot work: it needs served models that answer themselves."""
    if entry.router is None:
        return None
    needed = {entry.router.model, entry.router.fallback, *entry.router.labels.values()}
    routers = {name for name, model in models.items() if model.settings.router is not None}
    wrong = sorted(name for name in needed if name not in models or name in routers)
    return f"its router needs {', '.join(wrong)}, which is no served model that answers" if wrong else None


class _Unserved(Exception):
    pass


@dataclass(frozen=True, slots=True)
class _Bound:
    base: str
    identity: BaseModel | None
    registry: Registry

    def resolve(self, reference: str) -> AdapterVersion:
        try:
            version = self.registry.resolve(reference)
            require_base(version, self.base, self.identity)
        except AdapterError as error:
            raise _Unserved(str(error)) from None
        return version


def require_base(version: AdapterVersion, base: str, identity: BaseModel | None) -> None:
    """Raises WrongBase unless the version was trained on this base model, by content where that is known."""
    manifest = version.manifest
    # Without a hash of the base at hand the adapter's own stands in, and the names decide.
    same_name = BaseModel(base, manifest.base_sha256 if manifest.base_model == base else "")
    manifest.require_base(identity or same_name)


def split_reference(reference: str) -> tuple[str, str | None]:
    """An adapter reference's name and alias; None if it pins a version."""
    name, separator, wanted = reference.partition("@")
    if separator and re.fullmatch(VERSION_PATTERN, wanted):
        return name, None
    return name, wanted if separator else PROD


def _serve(name: str, entry: ServedModel, settings: Settings, bound: _Bound) -> tuple[Served, list[str]]:
    """The served model, and a note if its canary cannot be. Raises _Unserved."""
    if entry.base is not None and entry.base != bound.base:
        raise _Unserved(f"it belongs to the base model {entry.base}, the engine serves {bound.base}")
    adapter, canary, alias = None, None, None
    notes: list[str] = []
    if entry.adapter is not None:
        adapter = bound.resolve(entry.adapter)
        family, alias = split_reference(entry.adapter)
        if alias == PROD and bound.registry.aliases(family).get(CANARY, adapter.version) != adapter.version:
            try:
                canary = bound.resolve(f"{family}@{CANARY}")
            except _Unserved as why:
                notes.append(str(why))
    top_k = entry.top_k if entry.top_k is not None else settings.retrieval.top_k
    instructions = entry.instructions if entry.instructions is not None else settings.retrieval.instructions
    engine_model = adapter.engine_name if adapter else bound.base
    served = Served(name, engine_model, adapter, entry, top_k, entry.min_score, instructions, alias, canary)
    return served, notes
