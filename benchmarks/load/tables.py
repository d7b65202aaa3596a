"""A load run's summary on the terminal."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.load.summary import Summary


def print_summary(summary: Summary, console: Console | None = None) -> None:
    """The summary as two small tables."""
    console = console or Console()
    facts = Table(show_header=False, box=None, pad_edge=False)
    for name, value in _facts(summary):
        facts.add_row(name, Text(value))  # text, for an error message may look like markup
    console.print(facts)
    if summary.e2e:
        console.print(_latencies(summary))
    if summary.generator_fell_behind and summary.send_lag:
        console.print(
            f"warning: requests left {summary.send_lag.p99 * 1000:.0f} ms late (p99): this machine cannot keep the "
            "load up; lower it or run the generator elsewhere"
        )


def _latencies(summary: Summary) -> Table:
    latency = Table(box=None, pad_edge=False)
    for heading in ("latency, ms", "p50", "p95", "p99", "n"):
        latency.add_column(heading, justify="left" if heading == "latency, ms" else "right")
    named = (("first token", summary.ttft), ("between chunks", summary.inter_token), ("whole answer", summary.e2e))
    for name, found in named:
        if found:
            figures = [f"{value * 1000:.1f}" for value in (found.p50, found.p95, found.p99)]
            latency.add_row(name, *figures, str(found.count))
    return latency


def _facts(summary: Summary) -> list[tuple[str, str]]:
    header = summary.header
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in summary.outcomes.items()) or "none"
    tokens = f"{summary.completion_tokens_per_s:.1f} completion tokens/s"
    facts = [
        ("endpoint", f"{header.endpoint}, model {header.model}"),
        ("load", f"{header.load}; {header.workload}"),
        ("requests", f"{summary.requests} in {summary.wall_s:.1f} s: {outcomes}"),
        ("throughput", f"{summary.answered_per_s:.2f} answers/s, {tokens}"),
    ]
    if summary.simulated:
        facts.insert(0, ("SIMULATED", "no model is behind these answers; the figures say nothing about one"))
    if summary.mean_prompt_tokens is not None and summary.mean_completion_tokens is not None:
        facts.append(("tokens, mean", f"{summary.mean_prompt_tokens:.1f} in, {summary.mean_completion_tokens:.1f} out"))
    if cost := summary.cost:
        facts.append(("cost per query", f"allocation ${cost.allocation_usd:.8f}, usage ${cost.usage_usd:.8f}"))
        facts.append(("", f"mean of {cost.count} responses; {cost.label}"))
        facts += [(f"  at {model}", f"${usd:.8f} for the same tokens") for model, usd in cost.hosted_usd.items()]
    if summary.goodput_per_s is not None:
        share = f"{summary.good} of {summary.requests} requests"
        facts.append(("goodput", f"{summary.goodput_per_s:.2f} answers/s within the SLO ({share})"))
    if summary.first_error:
        facts.append(("first error", summary.first_error))
    return facts
