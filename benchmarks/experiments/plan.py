"""A plan of loads, read from YAML and taken apart into cells: one cell is one load run with its own counters.

A step is a closed loop, an open one, a sweep of rates, a grid of shapes, a comparison of variants that differ in one
thing, or changes of a document. Steps take whatever keys a load has; the plan's `defaults` come first.
"""

import difflib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from benchmarks.errors import PlanError
from benchmarks.load.plan import Slo, Target

Kind = Literal["closed", "open", "sweep", "grid", "compare", "change"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# Keys that become several cells, by kind; everything else in a step is a field of Load.
_LISTS: Mapping[Kind, tuple[str, ...]] = {
    "closed": (),
    "open": (),
    "sweep": ("rate",),
    "grid": ("prompt_tokens", "max_tokens", "concurrency"),
    "compare": (),
    "change": (),
}
_STEP = ("id", "kind", "repeats", "variants", "about")
_PLAN = ("name", "about", "objectives", "defaults", "steps")
_WHOLE = ("concurrency", "requests", "max_tokens", "prompt_tokens", "shared_prefix_tokens", "topics", "warmup", "seed")
_MAY_BE_ZERO = ("shared_prefix_tokens", "topics", "warmup", "seed")
_NUMBERS = ("rate", "duration_s", "timeout_s")


@dataclass(frozen=True, slots=True)
class Load:
    """What one cell sends. Times in seconds, rates per second; `prompts` is a JSONL file beside the plan, of which
    `only` the lines of one `kind` are asked.

    Without `prompts`, prompts of `prompt_tokens` are made up, the first `shared_prefix_tokens` of them the same in all,
    or with `topics` as retrieval composes them. `model` names a served model, or several with their weights.
    """

    model: str | tuple[tuple[str, float], ...] = ""
    prompts: str | None = None
    only: str | None = None
    prompt_tokens: int = 256
    shared_prefix_tokens: int = 0
    topics: int = 0
    max_tokens: int = 64
    ignore_eos: bool = False
    concurrency: int | None = None
    rate: float | None = None
    requests: int | None = None
    duration_s: float | None = None
    timeout_s: float = 120.0
    warmup: int = 0
    seed: int = 0

    @property
    def targets(self) -> tuple[Target, ...]:
        """The served models that are asked."""
        return (Target(self.model),) if isinstance(self.model, str) else tuple(Target(*pair) for pair in self.model)


_LOAD = tuple(each.name for each in fields(Load))


@dataclass(frozen=True, slots=True)
class Cell:
    """One load of a plan. `id` is unique in it; `variant` is the side of a comparison."""

    id: str
    step: str
    kind: Kind
    load: Load
    variant: str = ""
    repeat: int = 1


@dataclass(frozen=True, slots=True)
class ExperimentPlan:
    """A whole plan. `digest` identifies its text: results of another text are results of another plan."""

    name: str
    about: str
    objectives: Slo
    cells: tuple[Cell, ...]
    digest: str
    folder: Path = field(default=Path(), compare=False)


def read_plan(path: Path) -> ExperimentPlan:
    """The plan in `path`. PlanError names what is wrong and what may stand there."""
    try:
        content = path.read_bytes()
        tree = yaml.safe_load(content)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise PlanError(f"cannot read the plan {path}: {' '.join(str(error).split())}") from error
    if not isinstance(tree, dict):
        raise PlanError(f"{path} must hold name, objectives and steps; benchmarks/plans/small.yaml is an example")
    _only(tree, _PLAN, str(path))
    steps = tree.get("steps")
    if not isinstance(steps, list) or not steps:
        raise PlanError(f"{path} needs a list of steps")
    defaults = _mapping(tree.get("defaults", {}), "defaults")
    cells = tuple(cell for step in steps for cell in _cells(_mapping(step, "a step"), defaults))
    seen: set[str] = set()
    for cell in cells:
        if cell.id in seen:
            raise PlanError(f"{path}: the step id {cell.step!r} is used twice; name one of them otherwise")
        seen.add(cell.id)
    return ExperimentPlan(
        name=str(tree.get("name") or path.stem),
        about=" ".join(str(tree.get("about", "")).split()),
        objectives=_objectives(tree.get("objectives", {})),
        cells=cells,
        digest=hashlib.sha256(content).hexdigest()[:16],
        folder=path.parent,
    )


def _objectives(given: Any) -> Slo:
    held = _mapping(given, "objectives")
    _only(held, ("ttft_s", "itl_s", "e2e_s"), "objectives")
    return Slo(**{key: _positive(key, value) for key, value in held.items()})


def _cells(step: Mapping[str, Any], defaults: Mapping[str, Any]) -> Iterator[Cell]:
    kind = step.get("kind")
    name = str(step.get("id") or "")
    if kind not in KINDS:
        raise PlanError(f"step {name or step}: kind must be one of {', '.join(KINDS)}")
    if not name:
        raise PlanError(f"a {kind} step has no id; results are found by it")
    given: Mapping[str, Any] = {**defaults, **{key: value for key, value in step.items() if key not in _STEP}}
    if kind == "change":
        given = _one_by_one(step, given, name)
    repeats = _positive("repeats", step.get("repeats", 1), whole=True)
    for variant, changed in _variants(step, kind, name):
        for load, label in _loads({**given, **changed}, _LISTS[kind], name):
            for repeat in range(1, int(repeats) + 1):
                cell_id = "/".join(filter(None, (name, variant, label, str(repeat) if repeats > 1 else "")))
                # Another repeat is another draw of arrivals and prompts.
                yield Cell(cell_id, name, kind, replace(load, seed=load.seed + repeat - 1), variant, repeat)


def _one_by_one(step: Mapping[str, Any], given: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Of a load only what a change has; defaults for other steps are left out."""
    kept = ("model", "requests", "max_tokens", "timeout_s", "warmup", "seed")
    if wrong := [key for key in step if key not in (*_STEP, *kept) and key in _LOAD]:
        raise PlanError(f"step {name}: changes are made one after another, and need no {wrong[0]}")
    return {**{key: value for key, value in given.items() if key in kept or key not in _LOAD}, "concurrency": 1}


def _variants(step: Mapping[str, Any], kind: Kind, name: str) -> Sequence[tuple[str, Mapping[str, Any]]]:
    if kind != "compare":
        if "variants" in step:
            raise PlanError(f"step {name}: only a comparison has variants")
        return [("", {})]
    variants = _mapping(step.get("variants"), f"variants of step {name}")
    if len(variants) < 2:
        raise PlanError(f"step {name}: a comparison needs two variants at least")
    return [(str(variant), _mapping(changed, f"variant {variant}")) for variant, changed in variants.items()]


def _loads(given: Mapping[str, Any], lists: Sequence[str], name: str) -> Iterator[tuple[Load, str]]:
    """One load per combination of the keys that may be lists here."""
    many = {key: given[key] for key in lists if isinstance(given.get(key), list)}
    if lists and not many:
        raise PlanError(f"step {name}: give a list of {' or of '.join(lists)}")
    for values in product(*many.values()):
        chosen = dict(zip(many, values, strict=True))
        yield _load({**given, **chosen}, name), ",".join(f"{key}={value}" for key, value in chosen.items())


def _load(given: Mapping[str, Any], name: str) -> Load:
    where = f"step {name}"
    _only(given, _LOAD, where)
    checked = {key: _checked(key, value, where) for key, value in given.items()}
    load = Load(**checked)
    if not load.model:
        raise PlanError(f"{where}: name the served model (model: ...)")
    if (load.concurrency is None) == (load.rate is None):
        raise PlanError(f"{where}: give either concurrency (closed loop) or rate (open loop)")
    if (load.requests is None) == (load.duration_s is None):
        raise PlanError(f"{where}: give either requests or duration_s")
    return load


def _checked(key: str, value: Any, where: str) -> Any:
    if key in _WHOLE or key in _NUMBERS:
        if value == 0 and key in _MAY_BE_ZERO:
            return 0
        return _positive(f"{where}: {key}", value, whole=key in _WHOLE)
    if key == "ignore_eos" and not isinstance(value, bool):
        raise PlanError(f"{where}: ignore_eos must be true or false")
    if key == "model" and isinstance(value, dict) and value:
        return tuple((str(name), float(_positive(f"{where}: weight of {name}", each))) for name, each in value.items())
    if key in ("prompts", "only") and value is None:
        return None  # made-up ones, where the defaults name a file
    if key in ("model", "prompts", "only") and not (isinstance(value, str) and value):
        raise PlanError(f"{where}: {key} must be a name, not {value!r}")
    return value


def _positive(key: str, value: Any, *, whole: bool = False) -> float:
    kinds = int if whole else int | float
    if isinstance(value, bool) or not isinstance(value, kinds) or not 0 < value < float("inf"):
        raise PlanError(f"{key} must be a {'whole ' if whole else ''}number above zero, not {value!r}")
    return value


def _mapping(given: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise PlanError(f"{what} must be `key: value` lines, not {given!r}")
    return given


def _only(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0)
            raise PlanError(f"{where}: {key!r} is not known; did you mean {near[0]!r}? (known: {', '.join(known)})")
