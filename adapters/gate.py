"""Whether a version is good enough to be promoted: what was asked for against what its manifest says was measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from adapters.manifest import Manifest

FORGETTING, LATENCY, COST = "forgetting", "latency_s", "cost_usd"


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound on the score or measurement called `name`."""

    name: str
    kind: Literal["at least", "at most"]
    value: float


@dataclass(frozen=True, slots=True)
class Finding:
    """A limit and what the manifest says: the value of `n` trials with its 95 % interval; None: nobody measured it."""

    limit: Limit
    seen: float | None
    n: int = 0
    low: float | None = None
    high: float | None = None

    @property
    def passed(self) -> bool:
        """False too for what was never measured."""
        if self.seen is None:
            return False
        return self.seen >= self.limit.value if self.limit.kind == "at least" else self.seen <= self.limit.value

    def as_dict(self) -> dict[str, Any]:
        """For the audit log and HTTP."""
        wanted = {"name": self.limit.name, "wanted": f"{self.limit.kind} {self.limit.value:g}"}
        return {**wanted, "seen": self.seen, "n": self.n, "low": self.low, "high": self.high, "passed": self.passed}


def examine(manifest: Manifest, limits: Sequence[Limit]) -> tuple[Finding, ...]:
    """One finding per limit, in order. The point estimate decides; the interval is shown beside it."""
    measured = {each.name: each for each in manifest.measured}
    found = []
    for limit in limits:
        seen = measured.get(limit.name)
        found.append(Finding(limit, None) if seen is None else Finding(limit, seen.value, seen.n, seen.low, seen.high))
    return tuple(found)


def table(findings: Sequence[Finding]) -> str:
    """The findings as lines of text, for people."""
    rows = [("", "measured", "wanted", "seen", "n", "95 % interval")]
    for each in findings:
        interval = "" if each.low is None or each.high is None else f"{each.low:g} to {each.high:g}"
        seen = "never measured" if each.seen is None else f"{each.seen:g}"
        verdict = "ok" if each.passed else "MISSED"
        wanted = f"{each.limit.kind} {each.limit.value:g}"
        rows.append((verdict, each.limit.name, wanted, seen, str(each.n or ""), interval))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
