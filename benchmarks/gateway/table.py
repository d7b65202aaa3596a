"""The table that people read: derived from the raw results, and from nothing else."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from benchmarks.gateway.load import STREAMS_1, STREAMS_64, STREAMS_200, WHOLE_1, WHOLE_64

_WARM_S = 0.5  # both load clients count what came after it; CPU time is of the whole run


def cpu_us(load: Mapping[str, Any]) -> float:
    """Per request, or per streamed chunk: CPU time of the run over what came in it, its warm-up included."""
    units = load["chunks"] if load["load"]["stream"] else load["reqs"]
    return float(load["cpu_s"] / (units / load["secs"] * (load["secs"] + _WARM_S)) * 1e6) if units else float("inf")


def table(results: Sequence[Mapping[str, Any]]) -> Table:
    """One row per gateway; added times are over the direct ones of the same run."""
    shown = Table(title="One worker on one core; CPU in microseconds, times over direct in milliseconds")
    for heading in ("gateway", "CPU/request", "requests/s", "added p50", "CPU/chunk", "added TTFT: 1 stream"):
        shown.add_column(heading, justify="left" if heading == "gateway" else "right")
    for heading in ("64, p99", "200, p99", "RSS MB", "bad"):
        shown.add_column(heading, justify="right")
    direct = _by_name(results[0])
    for result in results[1:]:
        if "failed" in result:
            shown.add_row(result["name"], "not measured: " + result["failed"].splitlines()[0])
            continue
        shown.add_row(result["name"], *_figures(_by_name(result), direct), f"{result['rss_warm_mb']:.0f}", _bad(result))
    return shown


def _figures(of: Mapping[str, Any], direct: Mapping[str, Any]) -> list[str]:
    def added(name: str, figure: str) -> str:
        if of[name].get(figure, -1) < 0:
            return "-"
        return f"{(of[name][figure] - direct[name][figure]) / 1000:.2f}"

    whole = of[WHOLE_64.name]
    return [
        f"{cpu_us(whole):.1f}",
        f"{whole['reqs'] / whole['secs']:,.0f}",
        added(WHOLE_1.name, "p50_us"),
        f"{cpu_us(of[STREAMS_64.name]):.1f}",
        added(STREAMS_1.name, "ttft_p50"),
        added(STREAMS_64.name, "ttft_p99"),
        added(STREAMS_200.name, "ttft_p99"),
    ]


def _bad(result: Mapping[str, Any]) -> str:
    return str(sum(load["bad"] + load["non200"] + load["err"] for load in result["loads"]))


def _by_name(result: Mapping[str, Any]) -> dict[str, Any]:
    return {load["load"]["name"]: load for load in result["loads"]}
