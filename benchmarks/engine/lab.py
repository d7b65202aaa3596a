"""What the engine experiments share: vLLM servers that come up and go away, timed rounds of load.

Conditions take turns in one run, several rounds of each, because a shared machine is slower at some minutes than at
others: compare them within a round.
"""

import argparse
import asyncio
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.errors import EndpointError
from benchmarks.load.arrivals import Closed
from benchmarks.load.plan import LoadPlan, Target
from benchmarks.load.record import RequestRow
from benchmarks.load.run import run_load
from benchmarks.load.summary import Percentiles
from benchmarks.load.workload import Workload
from benchmarks.origin import Origin
from benchmarks.processes import free_port, process

OUTPUT_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """What a result begins with: all its conditions were asked the same. A prompt is so many words, to which the
    template adds 30 tokens."""

    model: str
    prompt_tokens: int
    output_tokens: int
    concurrency: int


@dataclass(frozen=True, slots=True)
class Server:
    """A running OpenAI server and the names it serves."""

    url: str
    models: tuple[str, ...]

    def counters(self, *names: str) -> tuple[float, ...]:
        """Sums of these metrics over their labels."""
        with urllib.request.urlopen(f"{self.url}/metrics", timeout=30) as answer:  # noqa: S310  # our own child
            lines = answer.read().decode().splitlines()
        return tuple(
            sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
            for name in names
        )


@contextmanager
def vllm(
    model: Path, log: Path, *arguments: str, environment: dict[str, str] | None = None, loras: Sequence[Path] = ()
) -> Iterator[Server]:
    """A vLLM server for `model` as `base`, with one served name per adapter folder, and by default with the gateway's
    settings for a CPU of few cores. Do not wait here: see `ready`."""
    port = free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "base", "--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048"]
    command += ["--disable-uvicorn-access-log", "--max-num-batched-tokens", "1024", *arguments]
    if loras:
        command += ["--lora-modules", *(f"{each.name}={each}" for each in loras)]
    given = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_NUM_OF_RESERVED_CPU": "0", "HF_HUB_OFFLINE": "1"}
    with process(command, log, {**given, **(environment or {})}):
        yield Server(f"http://127.0.0.1:{port}", ("base", *(each.name for each in loras)))


def ready(*urls: str, within_s: float = 300) -> None:
    """Waits until all of these vLLM servers answer. Raises EndpointError if one does not in time."""
    deadline = time.monotonic() + within_s
    for url in urls:
        while True:
            try:
                with urllib.request.urlopen(f"{url}/health", timeout=5):  # noqa: S310  # our own child
                    break
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline:
                    raise EndpointError(f"{url} did not come up in {within_s:g} s; see its log") from None
                time.sleep(0.5)


@dataclass(frozen=True, slots=True)
class Timing:
    """Of one round: seconds, and tokens per second of all answers together. All requests were answered in full."""

    requests: int
    seconds: float
    tokens_per_s: float
    ttft: Percentiles | None
    e2e: Percentiles | None


def options(
    about: str, *, requests: int, rounds: int, concurrency: int = 32, made_up: bool = True
) -> argparse.ArgumentParser:
    """A parser with what every experiment can be told; `made_up`: its prompts are."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("model", type=Path, help="folder of a checkpoint that vLLM serves")
    parser.add_argument("--requests", type=int, default=requests, help="of each condition in a round")
    parser.add_argument("--concurrency", type=int, default=concurrency)
    parser.add_argument("--rounds", type=int, default=rounds)
    if made_up:
        parser.add_argument("--prompt", type=int, default=300, help="words; the chat template adds 30 tokens")
    parser.add_argument("--logs", type=Path, default=Path())
    parser.add_argument("--out", type=Path, help="JSON file to write")
    return parser


def asked_of(given: argparse.Namespace) -> tuple[str, int, int, int]:
    """The fields of Asked, as `options` were given."""
    return given.model.name, given.prompt, OUTPUT_TOKENS, given.concurrency


def origin_of(module: str, given: argparse.Namespace, *more: str) -> Origin:
    """Where a result is from: its command with every option that decides it."""
    deciding = ("requests", "concurrency", "rounds", "prompt")
    words = [f"--{name} {getattr(given, name)}" for name in deciding if name in given]
    return Origin.here(" ".join(["python -m", module, given.model.name, *words, *more]))


def drive(
    url: str,
    models: Sequence[str],
    workload: Workload,
    *,
    concurrency: int,
    requests: int,
    max_tokens: int = OUTPUT_TOKENS,
) -> Timing:
    """A closed loop whose users are split evenly over `models`; every answer has exactly `max_tokens` tokens.

    Raises EndpointError if a request failed: what did not finish cannot be compared.
    """
    share = requests // len(models)
    plans = [
        LoadPlan(
            url=f"{url}/v1",
            targets=(Target(model),),
            workload=workload,
            load=Closed(concurrency // len(models)),
            requests=share,
            max_tokens=max_tokens,
            ignore_eos=True,
            # Each model its own prompts, or one would find another's in the prefix cache.
            offset=at * share,
            timeout_s=600,
            metrics=(),
        )
        for at, model in enumerate(models)
    ]

    async def together() -> list[RequestRow]:
        results = await asyncio.gather(*(run_load(plan) for plan in plans))
        return [row for result in results for row in result.rows]

    began = time.perf_counter()
    rows = asyncio.run(together())
    seconds = time.perf_counter() - began
    for row in rows:
        if row.outcome != "answered" or row.completion_tokens != max_tokens:
            raise EndpointError(
                f"request {row.index} of {models}: {row.outcome}, {row.completion_tokens} tokens, {row.error}"
            )
    return timing(rows, seconds)


def timing(rows: Sequence[RequestRow], seconds: float) -> Timing:
    """Of finished requests that took `seconds` together."""
    tokens = sum(row.completion_tokens or 0 for row in rows)
    ttft, e2e = Percentiles.of(row.ttft_s for row in rows), Percentiles.of(row.e2e_s for row in rows)
    return Timing(len(rows), round(seconds, 3), round(tokens / seconds, 1), ttft, e2e)
