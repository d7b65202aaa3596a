"""Products, ratios and shares: most of what the documents calculate."""

from collections.abc import Callable, Mapping
from decimal import Decimal

from benchmarks.economics.costs import hourly_wage_usd, stale_share
from benchmarks.economics.hosted import QueryShape, TokenRates, generation_usd
from benchmarks.economics.tuning import token_usd

_DAYS_PER_MONTH = Decimal("30.4")
_GB = Decimal(1_000_000_000)
_MILLION = Decimal(1_000_000)


def itself(value: Decimal) -> Decimal:
    """The figure as it is: for prices and single measurements."""
    return value


def ratio(value: Decimal, other: Decimal) -> Decimal:
    """One figure over another of the same unit; two that are both infinite are alike."""
    return Decimal(1) if value.is_infinite() and other.is_infinite() else value / other


def difference(value: Decimal, other: Decimal) -> Decimal:
    """One figure less another of the same unit."""
    return value - other


def total_tokens(documents: Decimal, each_tokens: Decimal) -> Decimal:
    """Tokens of so many documents, examples or passages."""
    return documents * each_tokens


def training_usd(tokens: Decimal, usd_per_mtok: Decimal, epochs: Decimal) -> Decimal:
    """A hosted training: tokens times price times epochs."""
    return token_usd(tokens, usd_per_mtok, epochs)


def embedding_usd(documents: Decimal, each_tokens: Decimal, usd_per_mtok: Decimal) -> Decimal:
    """Embedding so many documents once."""
    return token_usd(documents * each_tokens, usd_per_mtok)


def added_usd_per_query(tokens: Decimal, usd_per_mtok: Decimal) -> Decimal:
    """What so many tokens more cost in every query."""
    return token_usd(tokens, usd_per_mtok)


def wage_usd_per_hour(usd_per_year: Decimal) -> Decimal:
    """A year's wage over 2,080 hours."""
    return hourly_wage_usd(usd_per_year)


def labour_usd(hours: Decimal, usd_per_hour: Decimal, overhead_factor: Decimal = Decimal(1)) -> Decimal:
    """Hours of work times the wage, times what an employer pays on top."""
    return hours * usd_per_hour * overhead_factor


def rented_usd(gpus: Decimal, hours: Decimal, usd_per_hour: Decimal) -> Decimal:
    """Rent of so many GPUs for so many hours."""
    return gpus * hours * usd_per_hour


def setup_usd(hours: Decimal, usd_per_hour: Decimal, hosting_usd: Decimal) -> Decimal:
    """Labour and the first month of hosting."""
    return hours * usd_per_hour + hosting_usd


def query_usd(
    prompt_tokens: Decimal,
    context_tokens: Decimal,
    output_tokens: Decimal,
    input_usd_per_mtok: Decimal,
    output_usd_per_mtok: Decimal,
) -> Decimal:
    """List price of one hosted query: prompt and retrieved context in, answer out."""
    rates = TokenRates(input_usd_per_mtok, input_usd_per_mtok, output_usd_per_mtok)
    return generation_usd(QueryShape(prompt_tokens + context_tokens, output_tokens), rates)


def input_share(
    prompt_tokens: Decimal,
    context_tokens: Decimal,
    output_tokens: Decimal,
    input_usd_per_mtok: Decimal,
    output_usd_per_mtok: Decimal,
) -> Decimal:
    """Share of a hosted query's price that is its input."""
    shape = (prompt_tokens, context_tokens, output_tokens)
    return query_usd(*shape, input_usd_per_mtok, Decimal(0)) / query_usd(
        *shape, input_usd_per_mtok, output_usd_per_mtok
    )


def month_usd(queries_per_month: Decimal, usd_per_query: Decimal, fixed_usd_per_month: Decimal) -> Decimal:
    """A month's bill: volume times price, and what is paid whatever the volume."""
    return queries_per_month * usd_per_query + fixed_usd_per_month


def month_of_days_usd(queries_per_day: Decimal, usd_per_query: Decimal) -> Decimal:
    """A month (30.4 days) at so many queries a day."""
    return _DAYS_PER_MONTH * queries_per_day * usd_per_query


def reads_usd(
    queries_per_month: Decimal,
    read_units_per_query: Decimal,
    usd_per_million: Decimal,
    least_usd_per_month: Decimal,
) -> Decimal:
    """A month's reads of a metered vector store, or the plan's minimum if that is more."""
    return max(least_usd_per_month, queries_per_month * read_units_per_query * usd_per_million / _MILLION)


def stale_after(half_life_months: Decimal, months: Decimal) -> Decimal:
    """Share of the data that has changed after so many months."""
    return Decimal(repr(stale_share(half_life_months, months)))


def between(low_share: Decimal, high_share: Decimal, position_share: Decimal) -> Decimal:
    """Where in an interval: its lower end at position 0, its upper end at 1."""
    return low_share + position_share * (high_share - low_share)


def answer_ms(first_token_ms: Decimal, ms_per_token: Decimal, output_tokens: Decimal) -> Decimal:
    """Time to a whole answer of so many tokens."""
    return first_token_ms + ms_per_token * output_tokens


def vectors_gb(vectors: Decimal, dimensions: Decimal, index_factor: Decimal) -> Decimal:
    """Memory of vectors of four bytes a number; the factor is for the rows and the graph of the index."""
    return vectors * dimensions * 4 * index_factor / _GB


FORMULAS: Mapping[Callable[..., Decimal], str] = {
    itself: "any",
    ratio: "1",
    difference: "any",
    total_tokens: "tokens",
    training_usd: "USD",
    embedding_usd: "USD",
    added_usd_per_query: "USD/query",
    wage_usd_per_hour: "USD/h",
    labour_usd: "USD",
    rented_usd: "USD",
    setup_usd: "USD",
    query_usd: "USD/query",
    input_share: "share",
    month_usd: "USD/month",
    month_of_days_usd: "USD/month",
    reads_usd: "USD/month",
    stale_after: "share",
    between: "share",
    answer_ms: "ms",
    vectors_gb: "GB",
}
