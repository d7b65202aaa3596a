"""Accelerator time per query, from the shape of the query (formula 1), and what a token of each kind then costs (7)."""

from dataclasses import dataclass
from decimal import Decimal

from benchmarks.errors import ModelError

_SECONDS_PER_HOUR = Decimal(3600)
_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class ServiceDemand:
    """GPU-seconds that one query takes of a busy replica: fixed, per computed prompt token, per output token.

    `adapter_factor` multiplies all of it for LoRA (1 for the base model).
    """

    base_gpu_s: Decimal
    prefill_gpu_s_per_token: Decimal
    decode_gpu_s_per_token: Decimal
    adapter_factor: Decimal = Decimal(1)

    def gpu_s(self, prompt_tokens: Decimal, output_tokens: Decimal, prefix_hit_share: Decimal = Decimal(0)) -> Decimal:
        """GPU-seconds per query; tokens found in the prefix cache (a share, 0 to 1) cost nothing."""
        prefill = self.prefill_gpu_s_per_token * prompt_tokens * (1 - prefix_hit_share)
        return self.adapter_factor * (self.base_gpu_s + prefill + self.decode_gpu_s_per_token * output_tokens)


def saturation_queries_per_s(gpu_s_per_query: Decimal) -> Decimal:
    """The rate at which a replica is busy all the time: the inverse of the demand."""
    if gpu_s_per_query <= 0:
        raise ModelError("GPU-seconds per query must be above zero; measure the service demand first")
    return 1 / gpu_s_per_query


def utilisation(busy_gpu_s: Decimal, billed_gpu_s: Decimal) -> Decimal:
    """Busy share of what is paid for, 0 to 1."""
    if billed_gpu_s <= 0 or busy_gpu_s < 0 or busy_gpu_s > billed_gpu_s:
        raise ModelError("busy GPU-seconds must lie between zero and the billed GPU-seconds")
    return busy_gpu_s / billed_gpu_s


@dataclass(frozen=True, slots=True)
class TokenSplit:
    """Prices that add up to the bill: per query, per million computed prompt tokens, per million output tokens."""

    usd_per_query: Decimal
    usd_per_mtok_in: Decimal
    usd_per_mtok_out: Decimal


def token_split(demand: ServiceDemand, usd_per_gpu_hour: Decimal, busy_share: Decimal = Decimal(1)) -> TokenSplit:
    """In and out prices that sum to the bill. `busy_share` 1 gives usage cost; the utilisation gives allocation cost.

    Each token is charged its own time only. Charging the whole GPU-hour to input and again to output counts it twice.
    """
    if not 0 < busy_share <= 1:
        raise ModelError("the utilisation must be above 0 and at most 1")
    usd_per_s = usd_per_gpu_hour * demand.adapter_factor / (_SECONDS_PER_HOUR * busy_share)
    return TokenSplit(
        usd_per_s * demand.base_gpu_s,
        usd_per_s * demand.prefill_gpu_s_per_token * _MILLION,
        usd_per_s * demand.decode_gpu_s_per_token * _MILLION,
    )


def idle_usd(bill_usd: Decimal, busy_share: Decimal) -> Decimal:
    """The part of the bill that bought waiting: its own line under usage cost, spread over queries under allocation."""
    return bill_usd * (1 - busy_share)
