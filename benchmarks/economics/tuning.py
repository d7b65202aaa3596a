"""Fine-tuning against retrieval: prices of training, thresholds and totals over a horizon."""

from dataclasses import dataclass
from decimal import Decimal

_MILLION = Decimal(1_000_000)


def token_usd(tokens: Decimal, usd_per_mtok: Decimal, passes: Decimal = Decimal(1)) -> Decimal:
    """What `tokens` cost at a price per million; a training run reads them once per epoch (`passes`)."""
    return tokens * usd_per_mtok * passes / _MILLION


def context_threshold_tokens(
    price_multiple: Decimal, base_prompt_tokens: Decimal, output_tokens: Decimal, out_to_in_price: Decimal
) -> Decimal:
    """Retrieved tokens per query above which a fine-tuned model that needs none is cheaper per query.

    `price_multiple`: the fine-tuned model's token price over the base model's. `out_to_in_price`: output price over
    input price.
    """
    return (price_multiple - 1) * (base_prompt_tokens + out_to_in_price * output_tokens)


@dataclass(frozen=True, slots=True)
class Strategy:
    """A way to serve, as money: once, every month, per retraining, per query."""

    setup_usd: Decimal
    usd_per_month: Decimal
    usd_per_query: Decimal
    retrains: Decimal = Decimal(0)
    usd_per_retrain: Decimal = Decimal(0)

    def total_usd(self, volume: Decimal, months: Decimal) -> Decimal:
        """Over `months` at `volume` queries a month; `retrains` is the number over the whole horizon."""
        upkeep = self.setup_usd + self.retrains * self.usd_per_retrain
        return upkeep + months * (self.usd_per_month + volume * self.usd_per_query)


def crossover_volume(dear_to_start: Strategy, cheap_to_start: Strategy, months: Decimal) -> Decimal | None:
    """Monthly volume at which the first becomes cheaper than the second over `months`; None when it never does."""
    saving = cheap_to_start.usd_per_query - dear_to_start.usd_per_query
    extra = dear_to_start.total_usd(Decimal(0), months) - cheap_to_start.total_usd(Decimal(0), months)
    if extra <= 0:
        return Decimal(0)
    return extra / (months * saving) if saving > 0 else None
