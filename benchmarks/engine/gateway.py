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

from benchmarks.engine.lab import Asked, Server, Timing, asked_of, drive, options, origin_of, ready, vllm
from benchmarks.load.workload import synthetic
from benchmarks.origin import Origin
from benchmarks.processes import free_port, server
from benchmarks.result_file import show

_SIDES = ("direct", "gateway")


@dataclass(frozen=True, slots=True)
class Result(Asked):
    """Medians over rounds of the gateway's figure as a share of the direct one's in the same round."""

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
        up, log = f"http://127.0.0.1:{port}/readyz", given.logs / "gateway.log"
        stack.enter_context(server(command, up, log, {"BREAKEVEN_HOME": str(home)}))
        sides = {"direct": engine, "gateway": Server(f"http://127.0.0.1:{port}", ("served",))}
        for one in sides.values():
            drive(one.url, one.models, synthetic(given.prompt, 99), concurrency=4, requests=8, max_tokens=4)
        rounds: dict[str, list[Timing]] = {side: [] for side in sides}
        for number in range(given.rounds):
            for side in _SIDES if number % 2 == 0 else reversed(_SIDES):
                one, workload, count = sides[side], synthetic(given.prompt, number), given.concurrency
                done = drive(one.url, one.models, workload, concurrency=count, requests=given.requests)
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
    return Result(*asked_of(given), *shares, tuple(direct), tuple(gateway), origin)


def main() -> None:
    """Prints the result and writes it as JSON."""
    given = options(str(__doc__), requests=64, rounds=4).parse_args()
    show(measure(given, origin_of("benchmarks.engine.gateway", given)), given.out)


if __name__ == "__main__":
    main()
