"""All settings: `breakeven.yaml` overlaid by `BREAKEVEN_*` variables, one frozen tree.

No other module reads the environment.
`BREAKEVEN_ENGINE__MAX_MODEL_LEN=4096` sets `engine.max_model_len`. An unknown key, in the file or in the environment,
stops the start and names the nearest key, because a setting that is silently ignored is worse than none.
"""

import difflib
import os
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

PREFIX = "BREAKEVEN_"
# Not settings of the tree: where it lives, and the key the command line sends.
_SPECIAL = frozenset({"BREAKEVEN_HOME", "BREAKEVEN_CONFIG", "BREAKEVEN_API_KEY"})

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$")]


class SettingsError(Exception):
    """The configuration cannot be used; the message names the key and the mend."""


class Section(BaseModel):
    """A frozen part of the tree that refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(Section):
    """Where the gateway listens and what it accepts."""

    host: str = Field("127.0.0.1", description="Bind address. Any other than loopback needs API keys to exist.")
    port: int = Field(8000, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    max_body_bytes: int = Field(4_000_000, ge=1024, description="Largest request body in bytes; a larger one gets 413.")
    max_document_bytes: int = Field(64_000_000, ge=1024, description="Largest document in bytes for ingestion.")
    max_n: int = Field(8, ge=1, description="Largest `n` (choices per request) a client may ask for.")
    max_logprobs: int = Field(20, ge=0, description="Largest `logprobs`/`top_logprobs` a client may ask for.")
    max_schema_bytes: int = Field(
        65_536, ge=256, description="Largest JSON schema, regex or grammar a client may send, in bytes."
    )
    shutdown_s: float = Field(20, ge=0, description="Seconds that running requests get to finish at shutdown.")


class Engine(Section):
    """What generates: a vLLM child process, an external vLLM, or the simulator."""

    kind: Literal["vllm", "simulated"] = Field("vllm", description="`vllm`, or `simulated` for tests and dry runs.")
    url: str | None = Field(
        None, description="URL of an external vLLM (`http://host:8000`); without it the gateway starts its own."
    )
    api_key: str | None = Field(None, description="Key of the external vLLM; a child gets a random one.")
    model: str | None = Field(
        None,
        description="Base model: a hub id or a local path. Default: `smollm2-135m-instruct` (embedded) on a CPU, "
        "`Qwen/Qwen3-8B` on an NVIDIA GPU.",
    )
    max_model_len: int | None = Field(None, ge=128, description="Context length in tokens; default: the model's own.")
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that one copy of the model is split over.")
    dtype: str = Field("auto", description="vLLM's dtype: auto, bfloat16, float16, float32.")
    quantization: str | None = Field(None, description="vLLM's quantization method, for example fp8 or awq.")
    max_lora_rank: int = Field(16, ge=1, description="Largest adapter rank the engine reserves room for.")
    tool_call_parser: str = Field("hermes", description="vLLM's parser for tool calls of this base model.")
    cpu_kv_cache_gib: int = Field(1, ge=1, description="On a CPU: GiB of memory for the key-value cache.")
    extra_args: tuple[str, ...] = Field(
        (), description="Further arguments for the vLLM server, as on its command line."
    )
    startup_timeout_s: float = Field(900, gt=0, description="Seconds that a starting engine gets to become ready.")
    connect_timeout_s: float = Field(5, gt=0, description="Seconds to connect to the engine.")
    idle_timeout_s: float = Field(
        120, gt=0, description="Seconds without a byte from the engine, in a stream, before the request fails with 504."
    )
    request_timeout_s: float = Field(600, gt=0, description="Seconds that a whole request may take in the engine.")
    simulated_ttft_s: float = Field(0.02, ge=0, description="Simulator: seconds to the first token.")
    simulated_itl_s: float = Field(0.002, ge=0, description="Simulator: seconds between tokens.")
    simulated_tokens: int = Field(16, ge=1, description="Simulator: tokens per answer unless max_tokens is lower.")


class Retrieval(Section):
    """Defaults of retrieval, which a served model or a request may override."""

    embedder: Path | None = Field(
        None, description="Folder of a sentence-transformers model; default: the packaged all-MiniLM-L6-v2."
    )
    top_k: int = Field(4, ge=1, le=50, description="Passages given to the model at most.")
    max_top_k: int = Field(50, ge=1, description="Largest top_k a request may ask for.")
    min_score: float = Field(
        0.35,
        ge=-1,
        le=1,
        description="Lowest cosine similarity of a passage; if none reaches it, the answer abstains. A request's own, "
        "then the served model's, then the knowledge base's calibrated one (`breakeven calibrate`) come before it.",
    )
    instructions: str = Field(
        "Answer the question using only the passages below. Be brief and keep names and numbers exactly as written.",
        description="Put between the system prompt and the passages.",
    )
    threads: int = Field(2, ge=1, description="Threads the embedder uses.")


class Cost(Section):
    """What the accelerator costs and what the same tokens would cost elsewhere."""

    usd_per_hour: Decimal | None = Field(
        None, ge=0, description="What you pay per hour for one accelerator (or for the machine, on a CPU)."
    )
    source: str | None = Field(None, description="Where usd_per_hour comes from; shown with every cost.")
    as_of: date | None = Field(None, description="Date of usd_per_hour, YYYY-MM-DD.")
    idle_half_life_s: float = Field(
        3600, gt=0, description="Half-life, in seconds, of the busy/idle history that spreads idle time over requests."
    )
    hosted_models: tuple[str, ...] = Field(
        ("gpt-4o-mini", "gpt-4o"), description="Hosted models that the same tokens are priced against."
    )


class ServedModel(Section):
    """A name that clients send: base model, optional adapter, optional knowledge base."""

    base: str | None = Field(None, description="Base model this entry belongs to; default: whichever is served.")
    adapter: str | None = Field(None, description="Adapter name, or `name@version` to pin one.")
    knowledge: Name | None = Field(None, description="Knowledge base to answer from.")
    system_prompt: str | None = Field(None, description="System prompt, put before the client's own.")
    top_k: int | None = Field(None, ge=1, le=50, description="Overrides retrieval.top_k.")
    min_score: float | None = Field(None, ge=-1, le=1, description="Overrides a calibration and retrieval.min_score.")
    instructions: str | None = Field(None, description="Overrides retrieval.instructions.")
    abstain_message: str = Field(
        "I could not find anything about that in the documents I have.",
        description="The answer when no passage clears min_score.",
    )
    defaults: dict[str, Any] = Field(
        default_factory=dict,
        description="Request fields for when the client leaves them out (temperature, max_tokens).",
    )


class KnowledgeSource(Section):
    """What a knowledge base is filled from at start; what did not change costs a hash."""

    paths: tuple[Path, ...] = Field((), description="Files and folders ingested at start.")


class Settings(Section):
    """The whole tree. `home` holds all state."""

    home: Path = Field(Path(".breakeven"), description="State directory (`BREAKEVEN_HOME`).")
    server: Server = Server.model_validate({})
    engine: Engine = Engine.model_validate({})
    retrieval: Retrieval = Retrieval.model_validate({})
    cost: Cost = Cost.model_validate({})
    adapters: tuple[Path, ...] = Field((), description="Folders of adapters installed into the registry at start.")
    knowledge: dict[Name, KnowledgeSource] = Field(default_factory=dict, description="Knowledge bases by name.")
    models: dict[Name, ServedModel] = Field(default_factory=dict, description="Served models by name.")


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


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Our environment for a child process, with `extra` on top."""
    return {**os.environ, **extra}


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
        below = tree.setdefault(parent, {})
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
        got = "" if location[-1].endswith("key") else f" (got {item['input']!r})"
        return f"setting {key}: {item['msg']}{got}"
    known = [name for name, _, _ in describe()]
    wildcard = ".".join([location[0], "*", *location[2:]]) if location[0] in ("models", "knowledge") else key
    near = difflib.get_close_matches(wildcard, [*known, *Settings.model_fields], n=1, cutoff=0.5)
    near = near or difflib.get_close_matches(location[-1], [name.rpartition(".")[2] for name in known], n=1)
    hint = f"; did you mean {near[0].replace('*', location[1]) if '*' in near[0] else near[0]}?" if near else ""
    return f"unknown setting {key}{hint} (all settings: docs/settings.md)"


def _describe(section: type[Section], prefix: str) -> Iterable[tuple[str, str, str]]:
    for name, field in section.model_fields.items():
        inner = next((arg for arg in get_args(field.annotation) if _is_section(arg)), field.annotation)
        if isinstance(inner, type) and issubclass(inner, Section):
            yield from _describe(inner, f"{prefix}{name}." if inner is field.annotation else f"{prefix}{name}.*.")
        else:
            default = field.get_default(call_default_factory=True)
            yield f"{prefix}{name}", "" if default is None else str(default), field.description or ""


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, Section)
