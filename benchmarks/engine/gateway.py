"""The gateway beside the engine alone: `python -m benchmarks.engine.gateway MODEL --out FILE`.

One vLLM without a prefix cache, and a gateway in front of it. The same requests go to the one and to the other in turn,
and which goes first alternates, because a shared machine is slower at some minutes than at others.
"""

import argparse
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.engine.lab import Server, Timing, drive, free_port, process, ready, vllm, write
from benchmarks.load.workload import synthetic
from benchmarks.origin import Origin
from serving.settings import child_environment

_SIDES = ("direct", "gateway")


@dataclass(frozen=True, slots=True)
class Result:
    """Medians over rounds of the gateway's figure as a share of the direct one's in the same round."""

    model: str
    prompt_tokens: int
    output_tokens: int
    concurrency: int
    throughput: float
    e2e_p50: float
    e2e_p95: float
    ttft_p95: float
    direct: tuple[Timing, ...]
    gateway: tuple[Timing, ...]
    origin: Origin


def measure(given: argparse.Namespace, origin: Origin) -> Result:
    """Starts both and lets them take turns, after a first round that is not counted."""
    console = Console(stderr=True)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        engine = stack.enter_context(vllm(given.model, given.logs / "engine.log", "--no-enable-prefix-caching"))
        ready(engine.url)
        port = free_port()
        config = home / "breakeven.yaml"
        config.write_text(
            f"engine: {{url: '{engine.url}', model: base}}\ncost: {{usd_per_hour: 1}}\nmodels: {{served: {{}}}}\n"
        )
        command = [sys.executable, "-m", "breakeven", "serve", "--port", str(port), "--config", str(config)]
        variables = child_environment({"BREAKEVEN_HOME": str(home)})
        stack.enter_context(process(command, given.logs / "gateway.log", variables))
        ready(f"http://127.0.0.1:{port}", path="/readyz")
        sides = {"direct": engine, "gateway": Server(f"http://127.0.0.1:{port}", ("served",))}
        for server in sides.values():
            drive(server.url, server.models, synthetic(given.prompt, 99), concurrency=4, requests=8, max_tokens=4)
        rounds: dict[str, list[Timing]] = {side: [] for side in sides}
        for number in range(given.rounds):
            for side in _SIDES if number % 2 == 0 else reversed(_SIDES):
                server, workload = sides[side], synthetic(given.prompt, number)
                done = drive(
                    server.url, server.models, workload, concurrency=given.concurrency, requests=given.requests
                )
                rounds[side].append(done)
                console.print(f"round {number + 1}, {side}: {done.tokens_per_s} tokens/s")
    return _result(given, rounds["direct"], rounds["gateway"], origin)


def _result(given: argparse.Namespace, direct: list[Timing], gateway: list[Timing], origin: Origin) -> Result:
    def share(pick: str, at: str | None = None) -> float:
        def figure(timing: Timing) -> float:
            found = getattr(timing, pick)
            return float(found if at is None else getattr(found, at))

        pairs = zip(gateway, direct, strict=True)
        return round(statistics.median(figure(ours) / figure(theirs) for ours, theirs in pairs), 4)

    shares = (share("tokens_per_s"), share("e2e", "p50"), share("e2e", "p95"), share("ttft", "p95"))
    shape = (given.model.name, given.prompt, 64, given.concurrency)
    return Result(*shape, *shares, tuple(direct), tuple(gateway), origin)


def main() -> None:
    """Prints the result and writes it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, help="folder of a checkpoint that vLLM serves")
    parser.add_argument("--requests", type=int, default=64, help="of each side in a round")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--prompt", type=int, default=300, help="words; the chat template adds 30 tokens")
    parser.add_argument("--logs", type=Path, default=Path())
    parser.add_argument("--out", type=Path, help="JSON file to write")
    given = parser.parse_args()
    options = (
        f"--concurrency {given.concurrency} --requests {given.requests} --rounds {given.rounds} --prompt {given.prompt}"
    )
    write(measure(given, Origin.here(f"python -m benchmarks.engine.gateway {given.model.name} {options}")), given.out)


if __name__ == "__main__":
    main()
