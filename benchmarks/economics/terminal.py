"""A what-if answer in words and small tables. The first line alone must answer: does it pay, where, how sure."""

from collections import Counter
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.economics.answer import HORIZON_MONTHS, Answer, Comparison, assumed_inputs
from benchmarks.economics.figures import KINDS
from benchmarks.economics.sensitivity import Bar
from benchmarks.economics.uncertainty import Quantiles

_MOST_BARS = 3
# Tables take the width that they need: a figure cut short is a wrong one.
_WIDTH = 200


def print_answer(answer: Answer, console: Console) -> None:
    """The whole answer."""
    first = answer.comparisons[0]
    console.print(headline(answer, first), style="bold", markup=False)
    console.print()
    console.print(_comparisons(answer), width=_WIDTH, crop=False)
    console.print(_bill(answer), markup=False)
    if queue := answer.queue:
        busy = f"{queue.utilisation:.0%} busy, {queue.mean_wait_s:.3g} s mean wait for a replica"
        console.print(f"at the peak (Erlang C): {busy}", markup=False)
    console.print()
    console.print(_curves(answer), width=_WIDTH, crop=False)
    console.print()
    console.print(f"Most sensitive (monthly saving against {first.model} at {volume(answer.volume)}):", markup=False)
    for bar in first.bars[:_MOST_BARS]:
        console.print(f"  {sensitivity(bar)}", markup=False)
    if names := assumed_inputs(answer.inputs, first.bars):
        console.print(f"Assumed, not measured or quoted: {', '.join(names)}", markup=False)
    kinds = Counter(held.kind for held in answer.inputs.values())
    known = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS if kinds[kind])
    console.print(f"All results are modelled from {known} inputs; --json lists them with their sources", markup=False)
    for note in answer.notes:
        console.print(f"note: {note}", markup=False)


def headline(answer: Answer, comparison: Comparison) -> str:
    """Does it pay against one hosted model, at what volume, how sure."""
    draws, model = comparison.draws, comparison.model
    if comparison.where.never:
        anywhere = 1 - draws.first_quantiles.never_share
        return (
            f"No, at no volume against {model}: {why_never(answer, comparison)} "
            f"Some volume pays in {anywhere:.0%} of {len(draws.first)} draws."
        )
    sure = f"it pays there in {draws.pays_share:.0%} of {len(draws.safe)} draws"
    pays = f"{_where(comparison)}{_interval(comparison)}"
    if not answer.asked:
        return f"Yes against {model}, but only {pays}; {sure}."
    at = f"at {volume(answer.volume)} queries a month"
    saved = comparison.saved_usd
    verdict = f"Yes, {at}: saves {dollars(saved)}" if saved >= 0 else f"No, {at}: costs {dollars(-saved)} more"
    return f"{verdict} a month against {model}; {sure}. It pays {pays}."


def why_never(answer: Answer, comparison: Comparison) -> str:
    """The reason, and what would have to be true instead."""
    per_minute = answer.capacity_queries_per_s * 60
    lacking = comparison.missing
    needs = f"an API price above {cents(lacking.api_usd_per_query)} a query"
    if lacking.rate_factor is not None:
        rate = f"{float(lacking.rate_factor * per_minute):.3g} answers a minute per replica"
        needs = f"{rate} (now {float(per_minute):.3g}) or {needs}"
    return (
        f"a query costs {cents(answer.own.slope_usd)} even with every replica full, {comparison.model} asks "
        f"{cents(comparison.hosted.usd_per_query)}. It would take {needs}."
    )


def sensitivity(bar: Bar) -> str:
    """One input, moved."""
    moved = f"{bar.name} {plain(bar.low)} to {plain(bar.high)} ({bar.figure.kind})"
    flips = ", which flips the answer" if (bar.saved_at_low_usd < 0) != (bar.saved_at_high_usd < 0) else ""
    return f"{moved}: {signed(bar.saved_at_low_usd)} to {signed(bar.saved_at_high_usd)}{flips}"


def _where(comparison: Comparison) -> str:
    where = comparison.where
    if where.first is None:
        return "at no volume"
    if where.safe == 0:
        return "at every volume"
    if where.safe is None:
        return " and ".join(f"from {volume(part.low)} to {volume(part.high or part.low)}" for part in where.islands[:3])
    if not where.islands:
        return f"from {volume(where.safe)} queries a month"
    return f"first at {volume(where.first)} and always from {volume(where.safe)} queries a month"


def _interval(comparison: Comparison) -> str:
    """The interval of the volume from which it always pays."""
    found = comparison.draws.safe_quantiles
    return f" (90 % interval {interval(found)})" if found.p5 is not None else ""


def interval(found: Quantiles) -> str:
    """An interval of volumes; open-ended where too many draws never cross."""
    if found.p5 is None:
        return "never"
    end = volume(Decimal(found.p95)) if found.p95 is not None else f"open, {found.never_share:.0%} of draws never"
    return f"{volume(Decimal(found.p5))} to {end}"


def _short_interval(found: Quantiles) -> str:
    if found.p5 is None:
        return "never"
    return f"{short(Decimal(found.p5))}-{short(Decimal(found.p95)) if found.p95 is not None else 'open'}"


def _comparisons(answer: Answer) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(f"at {short(answer.volume)}/month", no_wrap=True)
    for heading in ("$/query", "saves", "V_first", "V_safe", "90 %", "pays in", "payback"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row("self-hosted", cents(answer.own_usd_per_query))
    for one in answer.comparisons:
        where = one.where
        table.add_row(
            Text(one.model),
            cents(one.hosted.usd(answer.volume) / answer.volume),
            signed(one.saved_usd),
            short(where.first) if where.first is not None else "never",
            short(where.safe) if where.safe is not None else "never",
            _short_interval(one.draws.safe_quantiles),
            f"{one.draws.pays_share:.0%}",
            f"month {one.payback_month}" if one.payback_month else f"> {HORIZON_MONTHS} mo",
        )
    return table


def _bill(answer: Answer) -> str:
    own = answer.own
    rest = own.fixed_usd_per_month + answer.volume * own.usd_per_query
    used = f"{float(answer.utilisation):.0%} used ({cents(answer.full_load_usd_per_query)} a query at full use)"
    machines = f"{dollars(own.machines_usd(answer.volume))} of machines, {used}"
    return f"self-hosted a month: {machines}, and {dollars(rest)} of people, retraining and fixed costs"


def _curves(answer: Answer) -> Table:
    table = Table(box=None, pad_edge=False)
    headings = ("queries/month", "replicas", "self-hosted", *(one.model for one in answer.comparisons))
    for heading in headings:
        table.add_column(Text(heading), justify="right", no_wrap=True)
    for at in answer.volumes():
        replicas = max(answer.own.replicas(at))
        hosted = (dollars(one.hosted.usd(at)) for one in answer.comparisons)
        table.add_row(volume(at), str(replicas), dollars(answer.own.usd(at)), *hosted)
    return table


def volume(queries: Decimal) -> str:
    """Queries, to three digits: more would claim what nobody knows."""
    return f"{float(f'{queries:.3g}'):,.0f}"


def short(queries: Decimal) -> str:
    """The same for tables: 417k, 23.3M."""
    for size, letter in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if queries >= size:
            return f"{float(queries / size):.3g}{letter}"
    return f"{float(queries):.3g}"


def dollars(usd: Decimal) -> str:
    """Whole dollars."""
    return f"${usd:,.0f}"


def signed(usd: Decimal) -> str:
    """Whole dollars, with the sign first."""
    return f"{'-' if usd < 0 else ''}${abs(usd):,.0f}"


def cents(usd: Decimal) -> str:
    """A price per query, to three digits."""
    return f"${plain(usd)}"


def plain(number: Decimal) -> str:
    """Three digits without an exponent."""
    rounded = Decimal(f"{number:.3g}")
    return f"{rounded:,f}"
