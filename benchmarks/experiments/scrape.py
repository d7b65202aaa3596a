"""Prometheus counters before and after a load: fetched, flattened, subtracted."""

from collections.abc import Iterator, Mapping
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 10
# Every label is kept except those that only name the process.
_ANONYMOUS = {"engine", "model_name"}
# Buckets are many, and the raw timings are finer; "created" series are no counts.
_LEFT_OUT = ("_bucket", "_created")
_NAMES = ("breakeven_", "vllm:")


async def scrape(session: aiohttp.ClientSession, url: str) -> dict[str, float] | None:
    """What `url` exposes, by series name; None when it cannot be reached or is no exposition."""
    try:
        async with session.get(url, timeout=aiohttp.ClientTimeout(total=_TIMEOUT_S)) as response:
            return parse(await response.text()) if response.status == 200 else None
    except (aiohttp.ClientError, OSError, ValueError):
        return None


def parse(exposition: str) -> dict[str, float]:
    """Breakeven's and vLLM's series: `name{label=value,...}` with the labels in alphabetical order.

    ValueError when the text is no exposition. Series that differ only by engine or engine model are summed.
    """
    found: dict[str, float] = {}
    for name, labels, value in _samples(exposition):
        if name.startswith(_NAMES) and not name.endswith(_LEFT_OUT):
            kept = ",".join(f"{key}={labels[key]}" for key in sorted(labels) if key not in _ANONYMOUS)
            series = f"{name}{{{kept}}}" if kept else name
            found[series] = found.get(series, 0.0) + value
    return found


def _samples(exposition: str) -> Iterator[tuple[str, Mapping[str, str], float]]:
    families: Any = text_string_to_metric_families(exposition)  # type: ignore[no-untyped-call]  # left untyped upstream
    for family in families:
        for sample in family.samples:
            if sample.value == sample.value:  # nan is no number
                yield sample.name, sample.labels, float(sample.value)


def increase(before: Mapping[str, float], after: Mapping[str, float], name: str, **labels: str) -> float:
    """By how much the series of `name` with these labels grew, summed over all their other labels.

    A counter that fell was reset by a restart: what it has counted since then is what is known.
    """
    grown = 0.0
    for series, value in after.items():
        if _matches(series, name, labels):
            start = before.get(series, 0.0)
            grown += value - start if value >= start else value
    return grown


def _matches(series: str, name: str, labels: Mapping[str, str]) -> bool:
    base, _, held = series.partition("{")
    pairs = held.removesuffix("}").split(",")
    return base == name and all(f"{key}={value}" in pairs for key, value in labels.items())
