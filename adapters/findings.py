"""What the check of a data set found, and how it is told: the summary first, then each kind with its first lines.

Errors are what training would refuse or must not learn from; warnings are for a person to judge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from adapters.speed import Estimate

Severity = Literal["error", "warning"]
# In the order they are told in.
KINDS: dict[str, tuple[Severity, str]] = {
    "malformed": ("error", "malformed"),
    "role": ("error", "missing or wrong roles"),
    "no-assistant": ("error", "nothing to learn from the assistant"),
    "empty": ("error", "empty"),
    "tools": ("error", "tools and tool calls"),
    "unfit": ("error", "cannot be expressed with this base model"),
    "too-long": ("error", "too long for training: would be cut"),
    "secret": ("error", "secrets"),
    "leak": ("error", "validation questions that are in the training set"),
    "personal": ("warning", "personal data"),
    "copy": ("warning", "exact copies"),
    "contradiction": ("warning", "same question, other answer"),
    "near-copy": ("warning", "near copies"),
    "near-leak": ("warning", "validation examples that are nearly in the training set"),
    "imbalance": ("warning", "labels out of balance"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """`line` counts from 1 in `file`; 0 is the file as a whole."""

    kind: str
    file: str
    line: int
    message: str

    @property
    def severity(self) -> Severity:
        """Of its kind."""
        return KINDS[self.kind][0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Of all sequences of the training set, prompts included; `trained` of them carry loss."""

    total: int
    p50: int
    p95: int
    longest: int
    trained: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """`version` begins the hash of the file's bytes; `estimate` is None as long as no speed was measured here."""

    file: str
    sha256: str
    examples: int
    validation: int
    labels: dict[str, int]
    tokens: Tokens | None
    findings: tuple[Finding, ...]
    epochs: float
    max_length: int
    estimate: Estimate | None = None
    estimate_from: str = ""

    @property
    def errors(self) -> int:
        """How many findings make training refuse the file, or should."""
        return sum(finding.severity == "error" for finding in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`; money is a string, as everywhere."""
        stated = asdict(self) | {"errors": self.errors, "warnings": len(self.findings) - self.errors}
        stated["findings"] = [asdict(finding) | {"severity": finding.severity} for finding in self.findings]
        if self.estimate and self.estimate.usd is not None:
            stated["estimate"]["usd"] = f"{self.estimate.usd:.6f}"
        return stated

    def lines(self, per_kind: int) -> Iterator[str]:
        """The report for people; at most `per_kind` findings of a kind are shown."""
        parts = f", {self.validation} validation examples" if self.validation else ""
        yield f"{self.file}@{self.sha256[:12]}: {self.examples} examples{parts}"
        if self.tokens:
            share = self.tokens.trained / max(1, self.tokens.total)
            yield (
                f"  tokens: {self.tokens.total:,} ({self.tokens.trained:,} trained, {share:.0%}); an example has "
                f"{self.tokens.p50:,} (p50), {self.tokens.p95:,} (p95), {self.tokens.longest:,} at most; "
                f"limit {self.max_length:,}"
            )
        if self.labels:
            counts = self.labels.values()
            yield f"  labels: {len(counts)}, from {min(counts)} to {max(counts)} examples"
        yield f"  training ({self.epochs:g} {'epoch' if self.epochs == 1 else 'epochs'}): {self._cost()}"
        yield f"  {self.errors} errors, {len(self.findings) - self.errors} warnings"
        for kind, (severity, title) in KINDS.items():
            yield from _told(severity, title, [each for each in self.findings if each.kind == kind], per_kind)

    def _cost(self) -> str:
        if self.estimate is None:
            return f"not measured yet. {self.estimate_from}"
        usd = "no price for this machine: set cost.usd_per_hour"
        if self.estimate.usd is not None:
            usd = f"${self.estimate.usd:.4f}"
        return f"about {_duration(self.estimate.seconds)}, {usd}; from {self.estimate_from}"


def _told(severity: Severity, title: str, findings: Sequence[Finding], per_kind: int) -> Iterator[str]:
    if not findings:
        return
    yield f"{severity}: {title}: {len(findings)}"
    for finding in findings[:per_kind]:
        where = f"{finding.file}:{finding.line}" if finding.line else finding.file
        yield f"  {where}: {finding.message}"
    if len(findings) > per_kind:
        yield f"  ... and {len(findings) - per_kind} more (--show {len(findings)})"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
