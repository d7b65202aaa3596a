"""Settings of the listener: where the gateway is reached, what it accepts, how long it waits for a client."""

from pydantic import Field

from serving.section import Section


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
    max_scored_bytes: int = Field(
        8192,
        ge=0,
        description="Largest text in bytes that an operator may have scored by `prompt_logprobs`, as `breakeven eval "
        "adapter` does for perplexity; 0 refuses it to everyone. Set 0 if engine.url is a CPU build with adapters: "
        "scoring can end vLLM 0.32 there.",
    )
    keys_max_age_s: float = Field(
        5,
        ge=2,
        description="With `database_url`: seconds after which a gateway that cannot ask PostgreSQL for revoked keys "
        "refuses every request (503). Longer bridges an outage, and lets a revoked key in for as long.",
    )
    metrics_token: str | None = Field(
        None,
        min_length=16,
        description="Bearer token with which Prometheus may read `/metrics`, and nothing else. Once there are API "
        "keys, `/metrics` names tenants and key ids and needs this or an operator's key.",
    )
    send_timeout_s: float = Field(
        60,
        gt=0,
        description="Seconds in which a client takes nothing of an answer that waits for it, after which its request "
        "is ended, in the engine too, and the connection closed; what it took is metered. A slow reader is not cut.",
    )
    shutdown_s: float = Field(20, ge=0, description="Seconds that running requests get to finish at shutdown.")
