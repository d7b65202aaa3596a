"""What a hosted model charges for the same traffic, token for token (formula 6)."""

from dataclasses import dataclass
from decimal import Decimal

_MILLION = Decimal(1_000_000)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class TokenRates:
    """USD per million tokens."""

    input_usd_per_mtok: Decimal
    cached_input_usd_per_mtok: Decimal
    output_usd_per_mtok: Decimal


@dataclass(frozen=True, slots=True)
class QueryShape:
    """Tokens of a query in the self-hosted model's tokenizer. `cached_share` of the prompt is billed as cached."""

    prompt_tokens: Decimal
    output_tokens: Decimal
    cached_share: Decimal = _ZERO


@dataclass(frozen=True, slots=True)
class HostedTerms:
    """What else decides a hosted bill.

    `tokenizer_ratio`: hosted tokens per token of ours. `batch_share` of the queries can wait for the batch price, which
    is `batch_discount` lower. `fees_usd_per_query`: embedding and vector search, paid by abstained queries too.
    """

    tokenizer_ratio: Decimal = Decimal(1)
    abstain_share: Decimal = _ZERO
    batch_share: Decimal = _ZERO
    batch_discount: Decimal = Decimal("0.5")
    fees_usd_per_query: Decimal = _ZERO


_PLAIN = HostedTerms()


def generation_usd(shape: QueryShape, rates: TokenRates, tokenizer_ratio: Decimal = Decimal(1)) -> Decimal:
    """List price of one answered query."""
    cached = shape.prompt_tokens * shape.cached_share
    fresh = shape.prompt_tokens - cached
    prompt = fresh * rates.input_usd_per_mtok + cached * rates.cached_input_usd_per_mtok
    return tokenizer_ratio * (prompt + shape.output_tokens * rates.output_usd_per_mtok) / _MILLION


def query_usd(shape: QueryShape, rates: TokenRates, terms: HostedTerms = _PLAIN) -> Decimal:
    """Mean cost of a query, abstentions among them."""
    batch = 1 - terms.batch_share * terms.batch_discount
    generated = generation_usd(shape, rates, terms.tokenizer_ratio) * batch
    return (1 - terms.abstain_share) * generated + terms.fees_usd_per_query


@dataclass(frozen=True, slots=True)
class HostedBill:
    """A hosted model's monthly bill as a line: so much a query, so much a month whatever the volume."""

    usd_per_query: Decimal
    usd_per_month: Decimal = _ZERO

    def usd(self, volume: Decimal) -> Decimal:
        """USD a month at `volume` queries a month."""
        return volume * self.usd_per_query + self.usd_per_month
