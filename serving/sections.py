"""The tree of settings: every section with its defaults, bounds and descriptions.

Each section is frozen and refuses keys that it does not know. `settings.py` fills the tree.
"""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from serving.listening import Server
from serving.pricing import Cost, Ledger
from serving.section import Name, Section, Url
from serving.sharing import Admission, Budget, Tenant


class Engine(Section):
    """What generates: a vLLM child process, an external vLLM, or the simulator."""

    kind: Literal["vllm", "simulated"] = Field("vllm", description="`vllm`, or `simulated` for tests and dry runs.")
    url: Url | None = Field(
        None, description="URL of an external vLLM (`http://host:8000`); without it the gateway starts its own."
    )
    replicas: tuple[Url, ...] = Field(
        (),
        description="With `url` a router before several engines: their own URLs, to load adapters into every one. Each "
        "address of a name counts (`http://engine-replicas:8000`, a headless Service); it is looked up every second.",
    )
    api_key: str | None = Field(None, description="Key of the external vLLM; a child gets a random one.")
    model: str | None = Field(
        None,
        description="Base model: a hub id or a local path. Default: `smollm2-135m-instruct` (embedded) on a CPU, "
        "`Qwen/Qwen3-8B` on an NVIDIA GPU.",
    )
    max_model_len: int | None = Field(
        None, ge=128, description="Context length in tokens; default: the model's own, or what the memory can hold."
    )
    tensor_parallel_size: int = Field(1, ge=1, description="GPUs that one copy of the model is split over.")
    dtype: str = Field("auto", description="vLLM's dtype: auto, bfloat16, float16, float32.")
    quantization: str | None = Field(None, description="vLLM's quantization method, for example fp8 or awq.")
    gpu_memory_utilization: float | None = Field(
        None, gt=0, le=1, description="Share of a GPU's memory that the engine takes; default: vLLM's own."
    )
    max_lora_rank: int = Field(16, ge=1, description="Largest adapter rank the engine reserves room for.")
    max_loras: int = Field(
        4, ge=0, description="Adapters that one batch may use; more are swapped in and out. 0 serves no adapters."
    )
    max_cpu_loras: int = Field(
        16,
        ge=1,
        description="Adapters kept in the machine's memory. On a CPU without `cpu_lora_plugin` each has a slot of its "
        "own, and this is how many versions one engine process can take.",
    )
    cpu_lora_plugin: bool = Field(
        True,
        description="On a CPU: our operations for adapters in vLLM, several times faster, and adapters are swapped.",
    )
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


class Tuning(Section):
    """Fine-tuning jobs: what a client leaves to "auto"."""

    epochs: int = Field(3, ge=1, description="Passes over the training file.")
    batch_size: int = Field(8, ge=1, description="Examples per step.")
    learning_rate: float = Field(2e-4, gt=0, description="What `learning_rate_multiplier` multiplies.")
    r: int = Field(16, ge=1, description="Rank of the adapter; the engine takes up to engine.max_lora_rank.")
    alpha: int = Field(32, ge=1, description="Weight of the adapter; the usual choice is twice the rank.")
    max_length: int = Field(1024, ge=16, description="Tokens of an example at most.")
    gpu_memory_share: float = Field(
        0,
        ge=0,
        lt=1,
        description="Share of the GPU's memory that is kept for training beside the engine; 0 refuses it.",
    )


class Retrieval(Section):
    """Defaults of retrieval, which a served model or a request may override."""

    embedder: Path | None = Field(
        None, description="Folder of a sentence-transformers model; default: the packaged all-MiniLM-L6-v2."
    )
    reranker: str | None = Field(
        None,
        min_length=1,
        description="Cross-encoder that may put passages in a better order: its folder or its id on the hub. Used only "
        "on knowledge bases where `breakeven eval rerank` measured it to be better.",
    )
    rerank_depth: int = Field(
        30, ge=2, le=100, description="Passages that the reranker reads for one question; its time grows with them."
    )
    chroma_url: str | None = Field(
        None,
        pattern="^https?://.",
        description="URL of a Chroma server (`http://host:8000`) for the vectors; without it they are in `home`, "
        "which one gateway owns. With `database_url`, too, several gateways share their documents.",
    )
    chroma_api_key: str | None = Field(
        None, description="Sent to the Chroma server as bearer token and as `x-chroma-token`."
    )
    chroma_timeout_s: float = Field(60, gt=0, description="Seconds to wait for an answer of the Chroma server.")
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
        "Answer the question using only the passages below. Be brief and keep names and numbers exactly as written. "
        "After each statement cite the passage it comes from by its number, like [1].",
        description="Put between the system prompt and the passages.",
    )
    threads: int | None = Field(
        None, ge=1, description="Threads the embedder uses on a CPU; default: one for each core it may run on."
    )
    device: str | None = Field(
        None, description="Where the embedder runs, as torch names it: `cpu`, `cuda:0`; default: a GPU if there is one."
    )
    search: Literal["hybrid", "dense", "lexical"] = Field(
        "hybrid", description="Rank by meaning and shared words together, or by one of them: `dense`, `lexical`."
    )
    per_source: int = Field(3, ge=1, description="Passages of one document at most.")
    duplicate: float = Field(
        0.8, gt=0, description="Share of word sequences that makes a passage a copy of a better one; above 1, none is."
    )
    neighbours: int = Field(
        1,
        ge=0,
        le=5,
        description="Chunks of the same section put back on each side of a passage, at most one per passage in all; "
        "0 gives passages as they were found.",
    )


class Ingestion(Section):
    """What parsing one document may cost: files of strangers are bombs, broken, or both."""

    parse_memory_mib: int = Field(1024, ge=64, description="MiB of memory that parsing one document may take.")
    parse_cpu_s: int = Field(120, ge=1, description="Seconds of processor time that parsing one document may take.")
    parse_wall_s: int = Field(180, ge=1, description="Seconds by the clock that parsing one document may take.")


class Gate(Section):
    """What a version must have been measured to do before it is promoted to `prod` or `canary`."""

    min_scores: dict[str, float] = Field(
        default_factory=dict, description="Lowest value of scores by name, for example `{format_adapter: 0.9}`."
    )
    max_forgetting: float | None = Field(None, description="Highest `forgetting`: what it lost on general questions.")
    max_latency_s: float | None = Field(None, gt=0, description="Highest `latency_s`, in seconds per request.")
    max_cost_usd: float | None = Field(None, gt=0, description="Highest `cost_usd`, in US dollars per request.")


class Canary(Section):
    """How a version under the alias `canary` is tried, and when it is rolled back without being asked."""

    share: float = Field(0.1, gt=0, le=0.5, description="Share of callers (by key and `user`) that the canary answers.")
    alpha: float = Field(
        0.05, gt=0, le=0.5, description="Share of canaries that are as good as prod and are rolled back all the same."
    )
    pattern: str | None = Field(
        None, description="Regular expression that a good answer matches as a whole; checked on every answer."
    )

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except re.error as error:
            raise ValueError(f"not a regular expression ({error})") from None
        return pattern


class Router(Section):
    """Picks the served model that answers by the intent of the last user message."""

    model: Name = Field(description="Served model that classifies, usually one with an adapter trained on the labels.")
    labels: dict[str, Name] = Field(min_length=1, description="Label -> served model that answers such messages.")
    min_confidence: float = Field(0.5, ge=0, le=1, description="Probability of a label below which `fallback` answers.")
    fallback: Name = Field(description="Served model that answers when the classifier is unsure or fails.")


class ServedModel(Section):
    """A name that clients send: base model, optional adapter, optional knowledge base; or a router to others."""

    base: str | None = Field(None, description="Base model this entry belongs to; default: whichever is served.")
    adapter: str | None = Field(
        None, description="Adapter name (its `prod` version), `name@alias`, or `name@version` to pin one."
    )
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
    gate: Gate = Gate.model_validate({})
    canary: Canary = Canary.model_validate({})
    router: Router | None = Field(None, description="Instead of an adapter and a knowledge base of its own.")

    @model_validator(mode="after")
    def _routes_or_answers(self) -> Self:
        if self.router is not None and (own := self.model_fields_set - {"router", "base"}):
            raise ValueError(f"a served model with a router answers nothing itself: leave out {', '.join(sorted(own))}")
        return self


class KnowledgeSource(Section):
    """What a knowledge base is filled from at start; what did not change costs a hash."""

    paths: tuple[Path, ...] = Field((), description="Files and folders ingested at start.")


class Settings(Section):
    """The whole tree. `home` holds all state."""

    home: Path = Field(Path(".breakeven"), description="State directory (`BREAKEVEN_HOME`).")
    database_url: str | None = Field(
        None,
        pattern="^postgres(ql)?://.",
        description="PostgreSQL (`postgresql://user:password@host/database`) that holds the catalogue of documents, "
        "their lexical index, the calibrations, the ledger, API keys, files and vector stores; without it they are in "
        "`home`.",
    )
    server: Server = Server.model_validate({})
    engine: Engine = Engine.model_validate({})
    retrieval: Retrieval = Retrieval.model_validate({})
    ingestion: Ingestion = Ingestion.model_validate({})
    tuning: Tuning = Tuning.model_validate({})
    cost: Cost = Cost.model_validate({})
    admission: Admission = Admission.model_validate({})
    default_budget: Budget = Budget.model_validate({})
    tenants: dict[Name, Tenant] = Field(default_factory=dict, description="Tenants by name.")
    ledger: Ledger = Ledger.model_validate({})
    adapters: tuple[Path, ...] = Field((), description="Folders of adapters installed into the registry at start.")
    knowledge: dict[Name, KnowledgeSource] = Field(default_factory=dict, description="Knowledge bases by name.")
    models: dict[Name, ServedModel] = Field(default_factory=dict, description="Served models by name.")

    @property
    def shared(self) -> bool:
        """Whether several gateways may use the documents: all of them are on servers."""
        return self.database_url is not None and self.retrieval.chroma_url is not None
