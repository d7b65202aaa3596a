"""A load run's summary on the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.load.summary import Part, Summary
from benchmarks.load.sweep import keeps


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """The summary as small tables."""
    console = console or Console()
    facts = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _facts(summary):
        facts.add_row(name, Text(value))  # text, for an error message may look like markup
    console.print(facts)
    if summary.e2e:
        console.print(_latencies(summary))
    for parts in (summary.by_model, summary.by_tenant):
        if parts:
            console.print(_parts(parts))
    if summary.compared:
        console.print(_books(summary))
    if summary.generator_fell_behind and summary.lateness:
        console.print(
            f"warning: requests left {summary.lateness.p99 * 1000:.0f} ms late (p99): this machine cannot keep the "
            "load up; lower it or run the generator elsewhere"
        )


def print_sweep(summaries: Sequence[Summary], console: Console) -> None:
    """One line a rate."""
    table = _table("req/s", "answered/s", "TTFT p95 ms", "ITL p95 ms", "end p95 ms", "good %", "tokens/s", "objectives")
    for summary in sorted(summaries, key=lambda each: each.header.rate or 0):
        share = (summary.good or 0) / summary.requests if summary.requests else 0.0
        p95s = [
            f"{found.p95 * 1000:.1f}" if found else "-" for found in (summary.ttft, summary.inter_token, summary.e2e)
        ]
        rate, answered = f"{summary.header.rate:g}", f"{summary.answered_per_s:.2f}"
        kept = "kept" if keeps(summary) else "missed"
        table.add_row(rate, answered, *p95s, f"{share:.0%}", f"{summary.completion_tokens_per_s:.0f}", kept)
    console.print(table)


def _table(*headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left")
    return table


def _latencies(summary: Summary) -> Table:
    latency = _table("latency, ms", "p50", "p95", "p99", "n")
    named = (
        ("first token", summary.ttft),
        ("between tokens, mean of an answer", summary.inter_token),
        ("between chunks", summary.gap),
        ("whole answer", summary.e2e),
        ("sent late", summary.lateness if summary.header.loop != "closed" else None),
    )
    for name, found in named:
        if found:
            figures = [f"{value * 1000:.1f}" for value in (found.p50, found.p95, found.p99)]
            latency.add_row(name, *figures, str(found.count))
    return latency


def _parts(parts: Sequence[Part]) -> Table:
    table = _table("of", "requests", "answered", "TTFT p50 ms", "TTFT p95 ms", "end p50 ms", "end p95 ms")
    for part in parts:
        figures = [
            f"{value * 1000:.1f}" for found in (part.ttft, part.e2e) if found for value in (found.p50, found.p95)
        ]
        table.add_row(Text(part.name or "(none)"), str(part.requests), str(part.answered), *figures)
    return table


def _books(summary: Summary) -> Table:
    table = _table("both books", "client", "Prometheus", "gap")
    for each in summary.compared:
        table.add_row(each.quantity, f"{each.client:.10g}", f"{each.server:.10g}", f"{each.gap:.2%}")
    return table


def _facts(summary: Summary) -> list[tuple[str, str]]:
    header = summary.header
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items()) or "none"
    tokens = f"{summary.completion_tokens_per_s:.1f} completion tokens/s"
    facts = [
        ("endpoint", f"{header.endpoint}, model {', '.join(header.models)}"),
        ("load", f"{header.load}; {header.workload}"),
        ("requests", f"{summary.requests} in {summary.wall_s:.1f} s: {outcomes}"),
        ("throughput", f"{summary.answered_per_s:.2f} answers/s, {tokens}"),
    ]
    if summary.simulated:
        facts.insert(0, ("SIMULATED", "no model is behind these answers; the figures say nothing about one"))
    if summary.mean_prompt_tokens is not None and summary.mean_completion_tokens is not None:
        cached = f", {summary.cached_share:.0%} of it cached" if summary.cached_share is not None else ""
        length = f"{summary.mean_prompt_tokens:.1f} in{cached}, {summary.mean_completion_tokens:.1f} out"
        facts.append(("tokens, mean", length))
    facts += _costs(summary)
    if summary.goodput_per_s is not None:
        share = f"{summary.good} of {summary.requests} requests"
        facts.append(("goodput", f"{summary.goodput_per_s:.2f} answers/s within the SLO ({share})"))
    if summary.first_error:
        facts.append(("first error", summary.first_error))
    return facts


def _costs(summary: Summary) -> list[tuple[str, str]]:
    facts: list[tuple[str, str]] = []
    if cost := summary.cost:
        facts.append(("cost per query", f"allocation ${cost.allocation_usd:.8f}, usage ${cost.usage_usd:.8f}"))
        facts.append(("", f"mean of {cost.count} responses; {cost.label}"))
        facts += [(f"  at {model}", f"${usd:.8f} for the same tokens") for model, usd in cost.hosted_usd.items()]
    if counted := summary.counted_cost:
        both = f"allocation ${counted.allocation_usd:.8f}, usage ${counted.usage_usd:.8f}"
        facts.append(("  by Prometheus", f"{both}; whole bill ${counted.bill_usd:.8f}, {counted.busy_share:.0%} busy"))
    return facts
