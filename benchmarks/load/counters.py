"""What the servers count of a load run: every counter of their Prometheus pages, before it and after.

Kept raw, as the client's timings are, so that cost per query, cache hits and the comparison of both sides are derived.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.errors import EndpointError
from benchmarks.load.plan import LoadPlan

_OURS = ("breakeven_", "vllm:")
# A request is counted when its record is written, which may be a moment after its client saw the end.
_SETTLE_S = 3.0
_POLL_S = 0.1
_TIMEOUT = aiohttp.ClientTimeout(total=10)

Series = Mapping[str, float]  # `name{label="value",...}`, labels sorted, to value


@dataclass(frozen=True)
class Counted:
    """One Prometheus page around a run. Series that are zero are left out; a page that a run could not read is not
    kept."""

    url: str
    before: Series = field(default_factory=dict)
    after: Series = field(default_factory=dict)

    def grew(self, name: str, **labels: str) -> float:
        """By how much the series of this name grew during the run, summed over those that have these labels."""
        return total(self.after, name, **labels) - total(self.before, name, **labels)

    def has(self, name: str) -> bool:
        """Whether the page has such a series at all (one that counted something by the end)."""
        return any(key.partition("{")[0] == name for key in self.after)

    def has_label(self, name: str, label: str, value: str) -> bool:
        """Whether one of its series carries this label."""
        return any(key.partition("{")[0] == name and _carries(key, label, value) for key in self.after)


def total(series: Series, name: str, **labels: str) -> float:
    """Sum of the series of this name that have these labels."""
    return sum(
        value
        for key, value in series.items()
        if key.partition("{")[0] == name and all(_carries(key, *wanted) for wanted in labels.items())
    )


def _carries(key: str, label: str, value: str) -> bool:
    return any(f'{before}{label}="{value}"' in key for before in "{,")


def parse(page: str) -> dict[str, float]:
    """Counters, gauges, and sums and counts of histograms of the gateway or of vLLM. ValueError if it is no such
    page."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if not sample.name.startswith(_OURS) or sample.name.endswith(("_bucket", "_created")) or not sample.value:
                continue
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


class Counters:
    """Reads the pages of a run's servers; the endpoint's own with the first key, which may have to be an operator's."""

    def __init__(self, session: aiohttp.ClientSession, plan: LoadPlan) -> None:
        self._session, self._urls = session, plan.metrics_pages
        root = plan.endpoint.removesuffix("/v1")
        key = {"Authorization": f"Bearer {plan.tenants[0].key}"} if plan.tenants else {}
        self._headers = {url: key for url in self._urls if url.startswith(f"{root}/")}
        self._before: dict[str, Series] = {}

    async def start(self, *, required: bool) -> tuple[Series, ...]:
        """The state before the first request, of each page. EndpointError if a page cannot be read that is `required`;
        else it is left out."""
        for url in self._urls:
            try:
                self._before[url] = await self._read(url)
            except (aiohttp.ClientError, OSError, ValueError) as error:
                if required:
                    why = str(error) or type(error).__name__
                    raise EndpointError(
                        f"{url} is no Prometheus page ({why}); correct --metrics, or leave it out for a run without "
                        "the server's own figures"
                    ) from error
        return tuple(self._before.values())

    async def stop(self, settled: Callable[[Counted], bool]) -> tuple[Counted, ...]:
        """The state after the last one, as soon as each page has `settled`, or after three seconds."""
        return tuple([await self._settle(url, before, settled) for url, before in self._before.items()])

    async def _settle(self, url: str, before: Series, settled: Callable[[Counted], bool]) -> Counted:
        clock = asyncio.get_running_loop().time
        deadline = clock() + _SETTLE_S
        found = Counted(url, before, before)
        while True:
            # Of a server that went down meanwhile the last state known is kept, and the comparison will show it.
            with suppress(aiohttp.ClientError, OSError, ValueError):
                found = Counted(url, before, await self._read(url))
            if settled(found) or clock() > deadline:
                return found
            await asyncio.sleep(_POLL_S)

    async def _read(self, url: str) -> Series:
        async with self._session.get(url, timeout=_TIMEOUT, headers=self._headers.get(url)) as response:
            response.raise_for_status()
            return parse(await response.text())
