"""What an adapter is, in one file beside its weights: where it came from and how well it does.

The version is a hash of the content, so that a name such as `support@1f2e3d4c5b6a` can only ever mean one set of
weights. A manifest without the file's base model hash would let an adapter run on a base it was not trained on and
answer nonsense; hence `BaseModel` and `Manifest.require_base`.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from adapters.errors import MalformedManifest, MissingBase, WrongBase

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
MANIFEST = "manifest.json"
ADAPTER_FILES = frozenset({WEIGHTS, CONFIG, MANIFEST})

NAME_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
VERSION_PATTERN = r"^[0-9a-f]{12}$"
_ORIGIN = "origin.json"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
DataRole = Literal["train", "validation", "heldout"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Number = Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model's identity: `name` for people, `sha256` for comparing."""

    name: str
    sha256: Sha256


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A share of `n` trials with its 95 % interval [low, high]."""

    name: str
    value: Fraction
    n: Annotated[int, Field(ge=1)]
    low: Fraction
    high: Fraction
    command: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is not a share: a mean of `n` in `unit` with its 95 % interval, such as forgetting, latency_s, cost_usd."""

    name: str
    value: Number
    unit: str
    n: Annotated[int, Field(ge=1)]
    low: Number
    high: Number
    command: str = ""
    commit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataVersion:
    """A data set that had a part in an adapter; `sha256` of the file's bytes is its version, `name` is for people."""

    role: DataRole
    name: str
    sha256: Sha256
    examples: Annotated[int, Field(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`version` names the content (`content_version`), `data_sha256` the training file; `created` is an ISO date.

    `data` names every data set; it is empty in manifests that are older than it.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[str, Field(pattern=VERSION_PATTERN)]
    base_model: str
    base_sha256: Sha256
    data_sha256: Sha256
    recipe: dict[str, JsonValue]
    command: str
    seed: int
    scores: tuple[Score, ...]
    libraries: dict[str, str]
    created: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    data: tuple[DataVersion, ...] = ()
    measurements: tuple[Measurement, ...] = ()

    @property
    def measured(self) -> "tuple[Score | Measurement, ...]":
        """Everything that an evaluation found."""
        return (*self.measurements, *self.scores)

    def to_json(self) -> str:
        """Indented JSON with the fields in their order here, ending in a newline."""
        return _MANIFEST.dump_json(self, indent=2, ensure_ascii=True, exclude_defaults=True).decode() + "\n"

    @staticmethod
    def from_json(text: str) -> "Manifest":
        """Raises MalformedManifest naming the first wrong field; unknown fields are wrong."""
        try:
            return _MANIFEST.validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "the file"
            raise MalformedManifest(
                f"{MANIFEST}: {field}: {first['msg']}; restore the file or train the adapter again"
            ) from None

    @staticmethod
    def read(folder: Path) -> "Manifest":
        """The manifest beside an adapter's weights. Raises MalformedManifest."""
        try:
            return Manifest.from_json((folder / MANIFEST).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError):
            raise MalformedManifest(
                f"{folder} has no readable {MANIFEST}; point to a folder that `breakeven train` wrote"
            ) from None

    def require_base(self, base: BaseModel) -> None:
        """Raises WrongBase unless `base` is what the adapter was trained on; names may differ, content may not."""
        if base.sha256 != self.base_sha256:
            raise WrongBase(
                f"adapter {self.name}@{self.version} belongs to base model {self.base_model}, not to {base.name}: "
                f"serve {self.base_model}, or train the adapter again on {base.name}"
            )


_MANIFEST = TypeAdapter(Manifest)


def sha256_of(path: Path) -> str:
    """The hex digest of a file of any size."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_version(folder: Path) -> str:
    """12 hex digits over the names and hashes of the weights and their config, the files that decide the behaviour."""
    lines = (f"{name}:{sha256_of(folder / name)}\n" for name in sorted((CONFIG, WEIGHTS)))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:12]


def base_fingerprint(model_dir: Path) -> BaseModel:
    """Identify a checkpoint folder. Reads every weight file unless `origin.json` beside them already says.

    origin.json names the file that a checkpoint was converted from, because two machines may convert to different
    bytes. Raises MissingBase.
    """
    origin = model_dir / _ORIGIN
    if origin.is_file():
        try:
            stated = json.loads(origin.read_text(encoding="utf-8"))
            return TypeAdapter(BaseModel).validate_python(stated)
        except (ValueError, ValidationError):
            raise MissingBase(f"{origin} is damaged: delete {model_dir} and prepare the base model again") from None
    weights = sorted(model_dir.glob("*.safetensors"))
    if not weights:
        raise MissingBase(f"{model_dir} holds no *.safetensors: give the folder of a base model checkpoint")
    digest = hashlib.sha256("".join(f"{path.name}:{sha256_of(path)}\n" for path in weights).encode())
    return BaseModel(name=_name_of(model_dir.resolve()), sha256=digest.hexdigest())


def _name_of(folder: Path) -> str:
    """The folder's own, or the hub id of a folder in the hub's cache: models--ORG--NAME/snapshots/COMMIT."""
    cached = folder.parent.parent.name
    if folder.parent.name == "snapshots" and cached.startswith("models--"):
        return cached.removeprefix("models--").replace("--", "/", 1)
    return folder.name
