"""What the servers count of a load run: every counter of their Prometheus pages, before it and after.

Kept raw, as the client's timings are, so that cost per query, cache hits and the comparison of both sides are derived.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

_OURS = ("breakeven_", "vllm:")
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
