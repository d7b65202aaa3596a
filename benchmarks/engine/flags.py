"""What settings of vLLM are worth on this machine: `python -m benchmarks.engine.flags MODEL --variant "NAME: ..."`.

A variant is a name and what is given to vLLM, variables (`NAME=value`) and arguments mixed, for example
`--variant "small steps: --max-num-batched-tokens 512"`. All of them are up at once and take turns. vLLM runs as the
gateway starts it with adapters, and is asked for the base model.
"""

import argparse
import re
import shlex
import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass

from rich.console import Console

from benchmarks.engine.lab import Asked, Server, Timing, asked_of, drive, options, origin_of, ready, vllm
from benchmarks.engine.lora import FLAGS
from benchmarks.load.workload import synthetic
from benchmarks.origin import Origin
from benchmarks.result_file import show

_VARIABLE = re.compile(r"[A-Z_]+=.*")


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to start vLLM. `against_first`: median over rounds of tokens per second as a share of the first's.

    `ready_s` counts from when all were started together, so it compares variants and says little on its own.
    """

    name: str
    given: str
    ready_s: float
    rounds: tuple[Timing, ...]
    tokens_per_s: float
    against_first: float
    ttft_p95_s: float
    e2e_p95_s: float


@dataclass(frozen=True, slots=True)
class Result(Asked):
    """All variants, in the order in which they took turns."""

    variants: tuple[Variant, ...]
    origin: Origin


def measure(variants: dict[str, str], given: argparse.Namespace, origin: Origin) -> Result:
    """Starts them together and lets them take turns, after a first round that is not counted."""
    console = Console(stderr=True)
    with ExitStack() as stack:
        began, servers, up = time.perf_counter(), dict[str, Server](), dict[str, float]()
        for name, said in variants.items():
            words = shlex.split(said)
            variables = dict(word.split("=", 1) for word in words if _VARIABLE.fullmatch(word))
            arguments = [word for word in words if not _VARIABLE.fullmatch(word)]
            log = given.logs / f"{name.replace(' ', '-')}.log"
            servers[name] = stack.enter_context(vllm(given.model, log, *FLAGS, *arguments, environment=variables))
        for name, server in servers.items():
            ready(server.url)
            up[name] = round(time.perf_counter() - began, 1)
        for server in servers.values():
            drive(server.url, server.models, synthetic(given.prompt, 99), concurrency=4, requests=4, max_tokens=4)
        rounds: dict[str, list[Timing]] = {name: [] for name in servers}
        for number in range(given.rounds):
            for name, server in servers.items():
                workload, count = synthetic(given.prompt, number), given.concurrency
                done = drive(server.url, server.models, workload, concurrency=count, requests=given.requests)
                rounds[name].append(done)
                console.print(f"round {number + 1}, {name}: {done.tokens_per_s} tokens/s")
    first = rounds[next(iter(rounds))]
    found = tuple(_variant(name, variants[name], up[name], done, first) for name, done in rounds.items())
    return Result(*asked_of(given), found, origin)


def _variant(name: str, said: str, ready_s: float, done: list[Timing], first: list[Timing]) -> Variant:
    share = statistics.median(mine.tokens_per_s / its.tokens_per_s for mine, its in zip(done, first, strict=True))
    speed = statistics.median(each.tokens_per_s for each in done)
    ttft = statistics.median(each.ttft.p95 for each in done if each.ttft)
    e2e = statistics.median(each.e2e.p95 for each in done if each.e2e)
    return Variant(name, said, ready_s, tuple(done), speed, round(share, 3), round(ttft, 3), round(e2e, 3))


def main() -> None:
    """Prints the result and writes it as JSON."""
    parser = options(str(__doc__), requests=32, rounds=2)
    parser.add_argument("--variant", action="append", required=True, metavar="NAME: ...")
    given = parser.parse_args()
    variants = {name.strip(): said.strip() for name, _, said in (each.partition(":") for each in given.variant)}
    words = [f"--variant {shlex.quote(each)}" for each in given.variant]
    show(measure(variants, given, origin_of("benchmarks.engine.flags", given, *words)), given.out)


if __name__ == "__main__":
    main()
