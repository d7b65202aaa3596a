"""Served models: which names clients may send, and what each binds together.

Resolved once at start from the settings, the engine's base model and the adapter registry. An entry that cannot be
served here (another base model, an adapter made for another) is left out with a line that says why.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adapters.errors import AdapterError
from adapters.registry import AdapterVersion, Registry
from serving.errors import UnknownModel
from serving.sections import ServedModel, Settings


@dataclass(frozen=True, slots=True)
class Served:
    """A served model, ready for requests. `engine_model` is the name the engine knows. Without a `min_score` of its
    own, the knowledge base's calibrated one or the setting is used."""

    name: str
    engine_model: str
    adapter: AdapterVersion | None
    settings: ServedModel
    top_k: int
    min_score: float | None
    instructions: str


class Catalogue:
    """Served models by name."""

    def __init__(self, models: Mapping[str, Served], left_out: Sequence[str], created: int) -> None:
        self._models = dict(models)
        self.left_out = tuple(left_out)
        self.created = created

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the order of the configuration."""
        return tuple(self._models)

    @property
    def adapters(self) -> tuple[AdapterVersion, ...]:
        """Every adapter version that a served model needs, once."""
        found = {model.adapter.engine_name: model.adapter for model in self._models.values() if model.adapter}
        return tuple(found.values())

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
        binds = {
            "engine_model": model.engine_model,
            "adapter": model.adapter.engine_name if model.adapter else None,
            "knowledge": model.settings.knowledge,
        }
        return {"id": name, "object": "model", "created": self.created, "owned_by": "breakeven", "breakeven": binds}


def base_name(model: str) -> str:
    """The name of a base model given as hub id or path: a path becomes its last part, a hub id stays whole."""
    path = Path(model)
    return path.resolve().name if path.is_dir() else model


def build_catalogue(settings: Settings, base: str, registry: Registry, created: int) -> Catalogue:
    """Resolve every configured entry against `base`, the engine's name for its base model.

    A plain entry under the base model's own name is added if the configuration has none, as vLLM itself would.
    """
    models: dict[str, Served] = {}
    left_out: list[str] = []
    for name, entry in settings.models.items():
        served = _serve(name, entry, settings, base, registry)
        if isinstance(served, Served):
            models[name] = served
        else:
            left_out.append(f"{name} is left out: {served}")
    if not any(model.adapter is None and model.settings.knowledge is None for model in models.values()):
        plain = ServedModel.model_validate({})
        wish = settings.retrieval
        models[base] = Served(base, base, None, plain, wish.top_k, None, wish.instructions)
    return Catalogue(models, left_out, created)


def _serve(name: str, entry: ServedModel, settings: Settings, base: str, registry: Registry) -> Served | str:
    if entry.base is not None and entry.base != base:
        return f"it belongs to the base model {entry.base}, the engine serves {base}"
    adapter = None
    if entry.adapter is not None:
        try:
            adapter = registry.resolve(entry.adapter)
        except AdapterError as error:
            return str(error)
        if adapter.manifest.base_model != base:
            return f"its adapter was trained on {adapter.manifest.base_model}, the engine serves {base}"
    top_k = entry.top_k if entry.top_k is not None else settings.retrieval.top_k
    instructions = entry.instructions if entry.instructions is not None else settings.retrieval.instructions
    engine_model = adapter.engine_name if adapter else base
    return Served(name, engine_model, adapter, entry, top_k, entry.min_score, instructions)
