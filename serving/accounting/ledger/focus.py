"""The ledger in the columns of the FinOps Open Cost and Usage Specification (FOCUS) 1.0.

The bill is the rented machine's, so BilledCost and EffectiveCost are the allocation cost, idle time included: summed
over all rows they are the bill. Quantities are priced in machine hours; a request consumes tokens, any other row hours.
Whatever FOCUS has no column for is in columns with the prefix `x_`, as it asks for, or in Tags under a prefix of ours.

Checked column by column (names, types, allowed values, when null) against the text of version 1.0 of June 2024; what is
required of providers that have commitment discounts, regions or negotiated prices does not apply here.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from math import ceil, floor
from typing import Any

import orjson

from serving.accounting.ledger.export import IN_PROGRESS, NOT_DRAWN, Line
from serving.accounting.ledger.gap import DOWN
from serving.accounting.ledger.rows import LOST, NOBODY, UNWRITTEN
from serving.accounting.stages import STAGES

_OURS = "Self-hosted"
_SAID = {
    IN_PROGRESS: "Requests that ran at the end of the window, less those that ran at its beginning",
    NOT_DRAWN: "Idle time that no request has taken a share of",
    DOWN: "Time between two runs of the gateway",
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
_TAG = "breakeven:"  # tags that a provider defines have a prefix of its own
_TAGGED = ("request_id", "key_id", "adapter", "knowledge", "endpoint", "outcome", "run_id")


def focus(line: Line) -> Mapping[str, Any]:
    """One line of the export as a row of COLUMNS."""
    cost = line["allocation_usd"]
    hours = format(Decimal(line["busy_s"] + line["host_s"] + line["idle_s"]) / 3600, ".12f")
    asked = line["outcome"] not in _SAID
    tokens = (line["prompt_tokens"] + line["completion_tokens"], "Tokens")
    purpose = f"{line['endpoint']} request, {line['outcome']}" if asked else _SAID[line["outcome"]]
    tags = {_TAG + name: value for name in _TAGGED if (value := _known(line[name])) is not None}
    if line["prefill_apportioned"]:
        tags |= {_TAG + "prefill": "apportioned"}
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row |= dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost)
    row |= dict.fromkeys(("ListUnitPrice", "ContractedUnitPrice"), line["usd_per_hour"])
    row |= dict.fromkeys(("ProviderName", "PublisherName", "InvoiceIssuerName", "BillingAccountName"), _OURS)
    row |= _times(line["started_at"], line["ended_at"])
    row |= {
        "BillingAccountId": "self-hosted",
        "BillingCurrency": "USD",
        "ChargeCategory": "Usage",
        # Only what an earlier export billed as in progress or not drawn yet is ever taken back.
        "ChargeClass": "Correction" if hours.startswith("-") else None,
        "ChargeFrequency": "Usage-Based",
        "ChargeDescription": f"{purpose}; {line['usd_per_hour']} USD per machine hour",
        "PricingCategory": "Standard",
        "PricingQuantity": hours,
        "PricingUnit": "Hours",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Breakeven",
        "SkuId": line["price_id"],
        "SkuPriceId": f"{line['price_id']}@{line['usd_per_hour']}",
        "Tags": orjson.dumps(tags).decode(),
        "x_UsageCost": line["usage_usd"],
        "x_PromptTokens": line["prompt_tokens"],
        "x_CachedTokens": line["cached_tokens"],
        "x_CompletionTokens": line["completion_tokens"],
        **{f"x_{stage.capitalize()}Cost": line[f"{stage}_usd"] for stage in STAGES},
    }
    row["ConsumedQuantity"], row["ConsumedUnit"] = tokens if asked else (hours, "Hours")
    row["SubAccountId"] = row["SubAccountName"] = _known(line["tenant"])
    if (model := _known(line["model"])) is not None:
        row |= {"ResourceId": f"served-model/{model}", "ResourceName": model, "ResourceType": "Served model"}
    return row


def _known(text: str | None) -> str | None:
    """FOCUS wants null where there is no value, and no mark for it."""
    return None if text == NOBODY else text


def _times(started_at: float, ended_at: float) -> dict[str, str]:
    # A charge belongs to the month in which it was settled; ends are exclusive, and so may be the next month's first.
    started = datetime.fromtimestamp(floor(started_at), UTC)
    ended = datetime.fromtimestamp(max(ceil(ended_at), floor(started_at) + 1), UTC)
    month = datetime.fromtimestamp(floor(ended_at), UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    return {
        "ChargePeriodStart": _iso(started),
        "ChargePeriodEnd": _iso(ended),
        "BillingPeriodStart": _iso(month),
        "BillingPeriodEnd": _iso(following),
    }


def _iso(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
