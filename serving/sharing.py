"""How the engine is shared: among requests at once, among tenants, and by what each may ask and spend."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from serving.section import Section

_MOST_USD = 1_000_000_000


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


class Budget(Section):
    """What may be spent, in US dollars of allocation cost; days and months begin at midnight UTC."""

    usd_per_day: Decimal | None = Field(
        None, ge=0, le=_MOST_USD, description="US dollars per UTC day; without it there is no limit."
    )
    usd_per_month: Decimal | None = Field(
        None, ge=0, le=_MOST_USD, description="US dollars per UTC month; without it there is no limit."
    )
    warn_at: float = Field(0.8, gt=0, le=1, description="Share of the budget from which on answers carry a warning.")

    @property
    def unlimited(self) -> bool:
        """Nothing is held for a request where all budgets are so."""
        return self.usd_per_day is None and self.usd_per_month is None


class RateLimits(Section):
    """How much a key may ask in a minute."""

    requests_per_minute: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] | None = None
    # Of prompts and answers.
    tokens_per_minute: Annotated[int, Field(ge=1, le=100_000_000, strict=True)] | None = None

    @property
    def unlimited(self) -> bool:
        """Neither is set."""
        return self.requests_per_minute is None and self.tokens_per_minute is None


class Tenant(Section):
    """One tenant's share."""

    weight: float = Field(1, gt=0, description="Share of a full engine, relative to other tenants that wait.")
    budget: Budget | None = Field(None, description="Instead of default_budget.")
