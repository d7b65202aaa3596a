"""Fine-tuning against retrieval, over months: what each costs, and where one becomes the cheaper.

A fine-tuned model is trained once in its set-up and again at every refresh; the last month needs none.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal

from benchmarks.economics.costs import retrain_usd
from benchmarks.economics.tuning import Strategy, context_threshold_tokens, crossover_volume

_MILLION = Decimal(1_000_000)


def _strategies(
    queries: tuple[Decimal, Decimal],
    setups: tuple[Decimal, Decimal],
    upkeep: tuple[Decimal, Decimal],
    retrains: Decimal,
) -> tuple[Strategy, Strategy]:
    retrain, rag_month = upkeep
    tuned = Strategy(setups[0], Decimal(0), queries[0], max(Decimal(0), retrains), retrain)
    return tuned, Strategy(setups[1], rag_month, queries[1])


def tuned_less_retrieved_usd(
    queries_per_month: Decimal,
    retrains_per_month: Decimal,
    months: Decimal,
    tuned_usd_per_query: Decimal,
    retrieved_usd_per_query: Decimal,
    tuned_setup_usd: Decimal,
    retrieved_setup_usd: Decimal,
    retrain_usd: Decimal,
    retrieved_usd_per_month: Decimal,
) -> Decimal:
    """Total cost of fine-tuning less that of retrieval."""
    tuned, retrieved = _strategies(
        (tuned_usd_per_query, retrieved_usd_per_query),
        (tuned_setup_usd, retrieved_setup_usd),
        (retrain_usd, retrieved_usd_per_month),
        retrains_per_month * months - 1,
    )
    return tuned.total_usd(queries_per_month, months) - retrieved.total_usd(queries_per_month, months)


def tuned_over_retrieved(
    queries_per_month: Decimal,
    retrains_per_month: Decimal,
    months: Decimal,
    tuned_usd_per_query: Decimal,
    retrieved_usd_per_query: Decimal,
    tuned_setup_usd: Decimal,
    retrieved_setup_usd: Decimal,
    retrain_usd: Decimal,
    retrieved_usd_per_month: Decimal,
) -> Decimal:
    """Total cost of fine-tuning over that of retrieval."""
    tuned, retrieved = _strategies(
        (tuned_usd_per_query, retrieved_usd_per_query),
        (tuned_setup_usd, retrieved_setup_usd),
        (retrain_usd, retrieved_usd_per_month),
        retrains_per_month * months - 1,
    )
    return tuned.total_usd(queries_per_month, months) / retrieved.total_usd(queries_per_month, months)


def crossover_queries(
    retrains_per_month: Decimal,
    months: Decimal,
    tuned_usd_per_query: Decimal,
    retrieved_usd_per_query: Decimal,
    tuned_setup_usd: Decimal,
    retrieved_setup_usd: Decimal,
    retrain_usd: Decimal,
    retrieved_usd_per_month: Decimal,
) -> Decimal:
    """Monthly volume from which fine-tuning is the cheaper; infinite when it never is."""
    tuned, retrieved = _strategies(
        (tuned_usd_per_query, retrieved_usd_per_query),
        (tuned_setup_usd, retrieved_setup_usd),
        (retrain_usd, retrieved_usd_per_month),
        retrains_per_month * months - 1,
    )
    found = crossover_volume(tuned, retrieved, months)
    return Decimal("Infinity") if found is None else found


def cheap_retrains_per_month(
    queries_per_month: Decimal,
    months: Decimal,
    tuned_usd_per_query: Decimal,
    retrieved_usd_per_query: Decimal,
    tuned_setup_usd: Decimal,
    retrieved_setup_usd: Decimal,
    retrain_usd: Decimal,
    retrieved_usd_per_month: Decimal,
) -> Decimal:
    """How often a month one can retrain until retrieval is the cheaper; below zero when it always is."""
    tuned, retrieved = _strategies(
        (tuned_usd_per_query, retrieved_usd_per_query),
        (tuned_setup_usd, retrieved_setup_usd),
        (retrain_usd, retrieved_usd_per_month),
        Decimal(0),
    )
    room = retrieved.total_usd(queries_per_month, months) - tuned.total_usd(queries_per_month, months)
    return (room / retrain_usd + 1) / months if room >= 0 else room / retrain_usd / months


def retraining_usd(labour_hours: Decimal, usd_per_hour: Decimal, run_usd: Decimal) -> Decimal:
    """One refresh: labour, and the training run with its evaluation."""
    return retrain_usd(Decimal(0), Decimal(0), run_usd, labour_hours, usd_per_hour)


def refresh_less_savings_usd(
    retrains_per_month: Decimal,
    retrain_usd: Decimal,
    queries_per_month: Decimal,
    tuned_usd_per_query: Decimal,
    retrieved_usd_per_query: Decimal,
) -> Decimal:
    """What a month of retraining costs, less what a month of shorter prompts saves."""
    return retrains_per_month * retrain_usd - queries_per_month * (retrieved_usd_per_query - tuned_usd_per_query)


def first_cycle_usd(
    labelling_hours: Decimal, search_hours: Decimal, usd_per_hour: Decimal, run_usd: Decimal
) -> Decimal:
    """A first fine-tuned model: preparing the data, searching for settings, the training run."""
    return (labelling_hours + search_hours) * usd_per_hour + run_usd


def context_tokens_to_tie(
    price_factor: Decimal,
    prompt_tokens: Decimal,
    output_tokens: Decimal,
    input_usd_per_mtok: Decimal,
    output_usd_per_mtok: Decimal,
) -> Decimal:
    """Tokens per query that a fine-tuned model must save to be no dearer per query."""
    return context_threshold_tokens(
        price_factor, prompt_tokens, output_tokens, output_usd_per_mtok / input_usd_per_mtok
    )


def saved_usd_per_query(
    context_tokens: Decimal,
    prompt_tokens: Decimal,
    output_tokens: Decimal,
    context_usd_per_mtok: Decimal,
    input_usd_per_mtok: Decimal,
    output_usd_per_mtok: Decimal,
    price_factor: Decimal,
) -> Decimal:
    """What a fine-tuned model saves per query by leaving the context (or the examples) out, at its higher token price.

    The context may have a price of its own: that of a cached prefix.
    """
    kept = prompt_tokens * input_usd_per_mtok + output_tokens * output_usd_per_mtok
    return (context_tokens * context_usd_per_mtok - (price_factor - 1) * kept) / _MILLION


FORMULAS: Mapping[Callable[..., Decimal], str] = {
    tuned_less_retrieved_usd: "USD",
    tuned_over_retrieved: "1",
    crossover_queries: "queries/month",
    cheap_retrains_per_month: "1/month",
    retraining_usd: "USD",
    refresh_less_savings_usd: "USD",
    first_cycle_usd: "USD",
    context_tokens_to_tie: "tokens",
    saved_usd_per_query: "USD/query",
}
