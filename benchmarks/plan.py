"""The description of one load run: where, what, how fast, for how long. Checked before anything is sent."""

from dataclasses import dataclass, field

from benchmarks.errors import PlanError
from benchmarks.workload import Workload


@dataclass(frozen=True)
class Slo:
    """Latency bounds, seconds from the scheduled time, that a request must keep to count as goodput."""

    ttft_s: float | None = None
    e2e_s: float | None = None

    def __bool__(self) -> bool:
        return self.ttft_s is not None or self.e2e_s is not None


@dataclass(frozen=True)
class LoadPlan:
    """One run: exactly one of concurrency (closed loop) and rate (open loop), one of duration_s and requests."""

    url: str
    model: str
    workload: Workload
    concurrency: int | None = None
    rate: float | None = None
    duration_s: float | None = None
    requests: int | None = None
    stream: bool = True
    max_tokens: int = 128
    ignore_eos: bool = False
    seed: int = 0
    timeout_s: float = 120.0
    slo: Slo = Slo()
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise PlanError(f"--url {self.url!r} must start with http:// or https://, such as http://127.0.0.1:8000/v1")
        if (self.concurrency is None) == (self.rate is None):
            raise PlanError("give either --concurrency (closed loop) or --rate (open loop)")
        if (self.duration_s is None) == (self.requests is None):
            raise PlanError("give either --duration or --requests")
        positive = (self.concurrency, self.rate, self.duration_s, self.requests, self.max_tokens, self.timeout_s)
        if any(value is not None and value <= 0 for value in positive):
            raise PlanError("concurrency, rate, duration, requests, max tokens and timeout must be above zero")
        if self.slo.ttft_s is not None and not self.stream:
            raise PlanError("--slo-ttft needs streaming: without it there is no first token to time")

    @property
    def endpoint(self) -> str:
        """The base URL, up to and including /v1."""
        return self.url.rstrip("/")

    @property
    def load(self) -> str:
        """The load in words."""
        if self.rate is not None:
            return f"open loop, Poisson {self.rate:g} req/s, seed {self.seed}"
        return f"closed loop, {self.concurrency} at a time"

    def command(self) -> str:
        """The options as a command line, for the record. The key is left out, for the record is shared."""
        options: list[tuple[str, object]] = [
            ("--url", self.url), ("--model", self.model), ("--concurrency", self.concurrency), ("--rate", self.rate),
            ("--duration", self.duration_s), ("--requests", self.requests), ("--max-tokens", self.max_tokens),
            ("--seed", self.seed), ("--timeout", self.timeout_s), ("--slo-ttft", self.slo.ttft_s),
            ("--slo-e2e", self.slo.e2e_s),
        ]  # fmt: skip
        words = [f"{name} {value}" for name, value in options if value is not None]
        words += ["--no-stream"] * (not self.stream) + ["--ignore-eos"] * self.ignore_eos
        return " ".join(["breakeven bench", *words, f"# prompts: {self.workload.label}"])
