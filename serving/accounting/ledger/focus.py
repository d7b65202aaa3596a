"""The ledger in the columns of the FinOps Open Cost and Usage Specification (FOCUS) 1.0.

The bill is the rented machine's, so BilledCost and EffectiveCost are the allocation cost, idle time included: summed
over all rows they are the bill. Quantities are priced in machine hours and consumed in tokens. Whatever FOCUS has no
column for is in columns with the prefix `x_`, as it asks for, or in Tags.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil, floor
from typing import Any

import orjson

from serving.accounting.ledger.export import IN_PROGRESS, NOT_DRAWN, Line
from serving.accounting.ledger.rows import LOST, UNWRITTEN
from serving.accounting.stages import STAGES

_OURS = "Self-hosted"
_SAID = {
    IN_PROGRESS: "Requests that ran at the end of the window, less those that ran at its beginning",
    NOT_DRAWN: "Idle time that no request has taken a share of",
    LOST: "Requests that a killed gateway did not finish",
    UNWRITTEN: "Requests whose rows could not be written",
}
# Of FOCUS 1.0's 43 columns those that say nothing here are there and null.
COLUMNS = (
    "AvailabilityZone", "BilledCost", "BillingAccountId", "BillingAccountName", "BillingCurrency", "BillingPeriodEnd",
    "BillingPeriodStart", "ChargeCategory", "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountCategory", "CommitmentDiscountId", "CommitmentDiscountName",
    "CommitmentDiscountStatus", "CommitmentDiscountType", "ConsumedQuantity", "ConsumedUnit", "ContractedCost",
    "ContractedUnitPrice", "EffectiveCost", "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory",
    "PricingQuantity", "PricingUnit", "ProviderName", "PublisherName", "RegionId", "RegionName", "ResourceId",
    "ResourceName", "ResourceType", "ServiceCategory", "ServiceName", "SkuId", "SkuPriceId", "SubAccountId",
    "SubAccountName", "Tags",
    "x_UsageCost", *(f"x_{stage.capitalize()}Cost" for stage in STAGES), "x_PromptTokens", "x_CachedTokens",
    "x_CompletionTokens",
)  # fmt: skip
_TAGGED = ("request_id", "key_id", "adapter", "knowledge", "endpoint", "outcome", "run_id")


def focus(line: Line) -> Mapping[str, Any]:
    """One line of the export as a row of COLUMNS."""
    cost = line["allocation_usd"]
    hours = Decimal(line["busy_s"] + line["host_s"] + line["idle_s"]) / 3600
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost)
    row |= dict.fromkeys(("ListUnitPrice", "ContractedUnitPrice"), line["usd_per_hour"])
    row |= dict.fromkeys(("ProviderName", "PublisherName", "InvoiceIssuerName", "BillingAccountName"), _OURS)
    row |= _times(line["started_at"], line["ended_at"])
    row |= {
        "BillingAccountId": "self-hosted",
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": _SAID.get(line["outcome"], f"{line['endpoint']} request, {line['outcome']}"),
        "ConsumedQuantity": line["prompt_tokens"] + line["completion_tokens"],
        "ConsumedUnit": "Tokens",
        "PricingCategory": "Standard",
        "PricingQuantity": format(hours, ".12f"),
        "PricingUnit": "Hours",
        "ResourceId": line["model"],
        "ResourceName": line["model"],
        "ResourceType": "Served model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Breakeven",
        "SkuId": line["price_id"],
        "SkuPriceId": f"{line['price_id']}@{line['usd_per_hour']}",
        "SubAccountId": line["tenant"],
        "SubAccountName": line["tenant"],
        "Tags": orjson.dumps({name: line[name] for name in _TAGGED if line[name] is not None}).decode(),
        "x_UsageCost": line["usage_usd"],
        "x_PromptTokens": line["prompt_tokens"],
        "x_CachedTokens": line["cached_tokens"],
        "x_CompletionTokens": line["completion_tokens"],
        **{f"x_{stage.capitalize()}Cost": line[f"{stage}_usd"] for stage in STAGES},
    }
    return row


def _times(started_at: float, ended_at: float) -> dict[str, str]:
    # A charge belongs to the month in which it was settled; its period's end is exclusive.
    started = datetime.fromtimestamp(floor(started_at), UTC)
    ended = datetime.fromtimestamp(max(ceil(ended_at), floor(started_at) + 1), UTC)
    month = ended.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    return {
        "ChargePeriodStart": _iso(started),
        "ChargePeriodEnd": _iso(ended),
        "BillingPeriodStart": _iso(month),
        "BillingPeriodEnd": _iso(following),
    }


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
