"""Settings of money: what the machine costs, what the same tokens cost elsewhere, how long the ledger keeps rows."""

from datetime import date
from decimal import Decimal
from typing import Any

from pydantic import Field

from serving.section import Host, Section


class Cost(Section):
    """What the accelerator costs and what the same tokens would cost elsewhere."""

    usd_per_hour: Decimal | None = Field(
        None, ge=0, description="What you pay per hour for one accelerator (or for the machine, on a CPU)."
    )
    source: str | None = Field(None, description="Where usd_per_hour comes from; shown with every cost.")
    as_of: date | None = Field(None, description="Date of usd_per_hour, YYYY-MM-DD.")
    engines_host: Host | None = Field(
        None,
        description="Host whose addresses are the engines to pay for, such as a headless Service. With it the bill "
        "counts as many engines as there are; without, one.",
    )
    gateways_host: Host | None = Field(
        None, description="Host whose addresses are the gateways that share these engines: each bills its part."
    )
    idle_half_life_s: float = Field(
        3600, gt=0, description="Half-life, in seconds, of the busy/idle history that spreads idle time over requests."
    )
    longest_gap_s: float = Field(
        900,
        ge=0,
        description="The time between two runs of the gateway is billed, as `down`, up to so many seconds: it "
        "restarts. Longer ones are taken for a machine that was given back. 0 bills none.",
    )
    hosted_models: tuple[str, ...] = Field(
        ("gpt-4o-mini", "gpt-4o"), description="Hosted models that the same tokens are priced against."
    )
    assumptions: dict[str, Any] = Field(
        default_factory=dict,
        description="Inputs of the live break-even that no gateway can measure, by their names in docs/economics.md, "
        "for example `{fte: 0.05, tokenizer_ratio: 1.1, api_batch_share: 0.2}`. What is left out is assumed, and said.",
    )
    hosted_retrieval: str | None = Field(
        "openai-file-search",
        description="Row of the price file that a hosted design pays for each search of documents; null if it has its "
        "own retrieval.",
    )
    window_s: float = Field(
        86_400, ge=60, description="Seconds of the latest traffic that the gauges of break-even look back on."
    )
    refresh_s: float = Field(
        15, ge=2, description="Seconds between two computations of the gauges of break-even; scrapes wait for none."
    )


class Ledger(Section):
    """The durable record of every request and of the bill."""

    retention_days: float | None = Field(
        None, gt=0, description="Days that requests and the bill are kept in the ledger; default: for ever."
    )
