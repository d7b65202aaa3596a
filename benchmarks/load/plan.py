"""The description of one load run: where, what, how fast, for how long. Checked before anything is sent."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from benchmarks.errors import PlanError
from benchmarks.load.arrivals import Closed, Load, Open, Replay
from benchmarks.load.workload import Prompt, Workload

T = TypeVar("T")


@dataclass(frozen=True)
class Slo:
    """Latency objectives that a request must keep to count as goodput, in seconds. `ttft_s` and `e2e_s` count from the
    scheduled time; `itl_s` is the request's mean time between tokens."""

    ttft_s: float | None = None
    e2e_s: float | None = None
    itl_s: float | None = None

    def __bool__(self) -> bool:
        return any(bound is not None for bound in (self.ttft_s, self.e2e_s, self.itl_s))


@dataclass(frozen=True)
class Target:
    """A served model, and how often it is asked in relation to the others."""

    model: str
    weight: float = 1.0


@dataclass(frozen=True)
class Tenant:
    """Who asks: an API key under a name, which is all of it that is recorded."""

    name: str
    key: str = field(repr=False)


@dataclass(frozen=True)
class Ask:
    """One request: what is asked of which served model, by whom (None: nobody has a key)."""

    model: str
    prompt: Prompt
    max_tokens: int
    tenant: Tenant | None


@dataclass(frozen=True)
class LoadPlan:
    """One run. Closed and open loops need one of duration_s and requests, a replay neither: its trace has an end."""

    url: str
    targets: tuple[Target, ...]
    workload: Workload
    load: Load
    duration_s: float | None = None
    requests: int | None = None
    stream: bool = True
    max_tokens: int = 128
    ignore_eos: bool = False
    seed: int = 0
    warmup: int = 0
    offset: int = 0  # of the prompts: runs of one workload that must not find each other's in the prefix cache
    timeout_s: float = 120.0
    slo: Slo = Slo()
    tenants: tuple[Tenant, ...] = ()
    metrics: tuple[str, ...] | None = None  # None: the endpoint's own page, if it has one

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise PlanError(f"--url {self.url!r} must start with http:// or https://, such as http://127.0.0.1:8000/v1")
        if not self.targets or any(target.weight <= 0 for target in self.targets):
            raise PlanError("name at least one --model, with a weight above zero if it has one (--model support=3)")
        if isinstance(self.load, Replay):
            if self.duration_s is not None or self.requests is not None:
                raise PlanError("a replay ends with its trace: leave --duration and --requests out, and use --window")
        elif (self.duration_s is None) == (self.requests is None):
            raise PlanError("give either --duration or --requests")
        positive = (self.duration_s, self.requests, self.max_tokens, self.timeout_s)
        if any(value is not None and value <= 0 for value in positive) or self.warmup < 0:
            raise PlanError("duration, requests, max tokens and timeout must be above zero, the warm-up not below it")
        if (self.slo.ttft_s is not None or self.slo.itl_s is not None) and not self.stream:
            raise PlanError("--slo-ttft and --slo-itl need streaming: without it there are no tokens to time")

    @property
    def endpoint(self) -> str:
        """The base URL, up to and including /v1."""
        return self.url.rstrip("/")

    @property
    def metrics_pages(self) -> tuple[str, ...]:
        """Prometheus pages to read; that of the endpoint unless others were named."""
        return (f"{self.endpoint.removesuffix('/v1')}/metrics",) if self.metrics is None else self.metrics

    def ask(self, index: int) -> Ask:
        """Request number `index`: the same for the same seed, whatever the server does."""
        model = _draw(self.targets, f"{self.seed}:{index}:model", [target.weight for target in self.targets]).model
        tenant = _draw(self.tenants, f"{self.seed}:{index}:tenant") if self.tenants else None
        prompt = self.workload.prompt(index + self.offset)
        return Ask(model, prompt, prompt.max_tokens or self.max_tokens, tenant)

    def command(self) -> str:
        """The options as a command line, for the record. Keys are left out, for the record is shared."""
        options: list[tuple[str, object]] = [
            ("--url", self.url), *(("--model", _weighted(target)) for target in self.targets), *_loop(self.load),
            ("--duration", self.duration_s), ("--requests", self.requests), ("--max-tokens", self.max_tokens),
            ("--warmup", self.warmup or None), ("--seed", self.seed), ("--timeout", self.timeout_s),
            ("--slo-ttft", self.slo.ttft_s), ("--slo-itl", self.slo.itl_s), ("--slo-e2e", self.slo.e2e_s),
        ]  # fmt: skip
        words = [f"{name} {value}" for name, value in options if value is not None]
        words += ["--no-stream"] * (not self.stream) + ["--ignore-eos"] * self.ignore_eos
        said = f"# prompts: {self.workload.label}" + (f"; {len(self.tenants)} keys" if len(self.tenants) > 1 else "")
        return " ".join(["breakeven bench", *words, said])


def _draw(choices: Sequence[T], seed: str, weights: Sequence[float] | None = None) -> T:
    return choices[0] if len(choices) == 1 else random.Random(seed).choices(choices, weights)[0]


def _weighted(target: Target) -> str:
    return target.model if target.weight == 1 else f"{target.model}={target.weight:g}"


def _loop(load: Load) -> list[tuple[str, object]]:
    if isinstance(load, Closed):
        return [("--concurrency", load.concurrency)]
    if isinstance(load, Open):
        return [("--rate", load.rate), ("--burstiness", None if load.burstiness == 1 else load.burstiness)]
    return [("--trace", load.source), ("--speed", load.speed), ("--window", load.window)]
