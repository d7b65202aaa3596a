"""A scenario from as little as the user says: every other figure is an assumption that names its origin.

The assumptions are the documents' own (docs/economics.md lists them); none of them is a measurement.
"""

from collections.abc import Mapping
from dataclasses import fields, replace

from benchmarks.economics.figures import Figure, Kind, assumed, quoted
from benchmarks.economics.scenario import (
    Capacity,
    Choices,
    HostedModel,
    Machines,
    Outlook,
    Scenario,
    Upkeep,
    Workload,
)
from benchmarks.errors import ModelError
from benchmarks.prices import ApiPrice, GpuPrice

_NONE = "none assumed; set it if there are any"


def chosen(value: str | int, source: str) -> Figure:
    """A decision rather than an uncertainty: it does not vary in draws."""
    return assumed(value, source, str(value), str(value))


ASSUMED: Mapping[str, Figure] = {
    "prompt_tokens": chosen(1400, "reference workload of the documents: 200 prompt + 4 passages of 300"),
    "output_tokens": chosen(250, "reference workload of the documents"),
    "abstain_share": assumed(0, _NONE),
    "hours_per_day": chosen(24, "always on"),
    "days_per_month": chosen(30, "used when the service stops every day; always on is 730 hours"),
    "peak_to_mean": assumed(2, "default of the model"),
    "max_utilisation": chosen(1, "the rate is taken as sustained within the objectives"),
    "adapter_factor": assumed(1, "no adapter, or measured with it", "1", "1"),
    "prefix_hit_share": assumed(0, _NONE),
    "gpus_per_replica": chosen(1, "the model fits one"),
    "cold_start_s": assumed(0, _NONE),
    "fixed_usd_per_month": assumed(0, _NONE),
    "self_usd_per_query": assumed(0, _NONE),
    "fte": assumed("0.1", "default of the model: a tenth of an engineer"),
    "wage_usd_per_year": assumed(165_000, "median of an ML engineer according to document A"),
    "labour_overhead": chosen("1.3", "default of the model: what an employer pays on top of wages"),
    "retrains_per_month": chosen(0, "no adapter that must be retrained"),
    "train_gpu_hours": assumed(5, "document D: $10-30 per run, at A100 prices", "5", "22"),
    "eval_usd": assumed(75, "document D's training run, with its three epochs"),
    "retrain_labour_hours": assumed(8, "default of the model"),
    "setup_usd": assumed(1250, "documents: setting up retrieval costs $500-2,000", "500", "2000"),
    "tokenizer_ratio": assumed(1, "the same tokens in both tokenizers", "0.85", "1.15"),
    "api_cached_share": assumed(0, _NONE),
    "api_batch_share": assumed(0, _NONE),
    "api_batch_discount": chosen("0.5", "half price for batches"),
    "api_fees_usd_per_query": assumed(0, _NONE),
    "api_usd_per_month": assumed(20, "documents: a vector database for the hosted design, $20 a month"),
    "growth_per_month": assumed(0, _NONE),
    "api_price_decline_per_year": assumed(0, _NONE),
    "gpu_price_decline_per_year": assumed(0, _NONE),
}

# Utilisation kept in reserve when the capacity comes from the service demand, which is a rate at full load.
DEMAND_UTILISATION = chosen("0.7", "default of the model: full load has no bounded wait")

CLAIMED_RATE = assumed(30, "claimed in document D for an 8B model on an A10G; nobody measured it here")

DEMAND = ("base_gpu_s", "prefill_gpu_s_per_token", "decode_gpu_s_per_token")


def make_scenario(
    gpu: GpuPrice, api: ApiPrice, known: Mapping[str, Figure] | None = None, choices: Choices | None = None
) -> Scenario:
    """Prices, what is `known` by field name, and assumptions for the rest. `choices` names no hosted model: `api` does.

    Without a rate or a service demand among the known, the documents' claim stands in for it. ModelError when the
    known figures contradict each other.
    """
    given = dict(known or {})
    if _by_demand(given):
        given.setdefault("max_utilisation", DEMAND_UTILISATION)
    else:
        given.setdefault("queries_per_minute", CLAIMED_RATE)
    found = {**ASSUMED, **prices(gpu, api), **given}

    def pick(group: type) -> dict[str, Figure]:
        return {field.name: found.pop(field.name) for field in fields(group) if field.name in found}

    made = Scenario(
        Workload(**pick(Workload)),
        Capacity(**pick(Capacity)),
        Machines(**pick(Machines)),
        Upkeep(**pick(Upkeep)),
        HostedModel(**pick(HostedModel)),
        Outlook(**pick(Outlook)),
        replace(choices or Choices(), hosted_model=api.id),
    )
    if found:
        raise ModelError(f"{min(found)} is no figure of the model; docs/economics.md lists them")
    return made


def _by_demand(known: Mapping[str, Figure]) -> bool:
    """Whether the capacity follows from the service demand; what would be ignored is refused."""
    parts = [name for name in DEMAND if name in known]
    if parts and ("queries_per_minute" in known or len(parts) < len(DEMAND)):
        raise ModelError(f"give queries_per_minute or all of {', '.join(DEMAND)}, not a mixture")
    for name in ("adapter_factor", "prefix_hit_share"):
        if not parts and name in known and known[name].value != ASSUMED[name].value:
            raise ModelError(f"{name} acts on a service demand; measure queries_per_minute with it instead")
    return bool(parts)


def prices(gpu: GpuPrice, api: ApiPrice) -> dict[str, Figure]:
    """The figures that a machine's and a hosted model's price give."""
    kind: Kind = "assumed" if gpu.basis == "assumed" else "quoted"
    source = f"{api.id}: {api.source}"
    return {
        "usd_per_gpu_hour": Figure(gpu.usd_per_hour, kind, f"{gpu.id}: {gpu.source}", as_of=gpu.as_of),
        "api_input_usd_per_mtok": quoted(api.input_usd_per_mtok, source, api.as_of),
        "api_cached_input_usd_per_mtok": quoted(api.cached_input_usd_per_mtok, source, api.as_of),
        "api_output_usd_per_mtok": quoted(api.output_usd_per_mtok, source, api.as_of),
    }
