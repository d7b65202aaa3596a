"""Settings of how the engine is shared: among requests at once and among tenants."""

from pydantic import Field

from serving.section import Section


class Admission(Section):
    """How many requests the engine gets, how many wait, and when one is refused."""

    max_running: int | None = Field(
        None,
        ge=1,
        description="Requests in the engine at once. Default: `--max-num-seqs` of engine.extra_args, else 256, or 32 "
        "for an engine on the CPU.",
    )
    max_queued: int = Field(512, ge=1, description="Requests that may wait for the engine, of all tenants together.")
    objective_s: float = Field(
        30,
        gt=0,
        description="Seconds from request to whole answer that accepted requests should keep. A request that would "
        "have to wait so long that it misses this gets 429 at once.",
    )


class Tenant(Section):
    """One tenant's share."""

    weight: float = Field(1, gt=0, description="Share of a full engine, relative to other tenants that wait.")
