"""What a prefix cache saves where many ask about the same topics: `python -m benchmarks.engine.prefix MODEL`.

Questions on the example handbook are drawn with repetition, passages are found and the prompt is composed as the
gateway does it. The same requests go to engines with and without such a cache, with the passages in document order, as
the gateway has them, and best first. The engine is never idle meanwhile, so seconds per query are what one costs.
"""

import argparse
import json
import random
import statistics
import tempfile
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks.engine.lab import Server, drive, options, origin_of, ready, vllm
from benchmarks.load.workload import Message, Prompt, Workload
from benchmarks.origin import Origin
from benchmarks.result_file import show
from retrieval import prompt
from retrieval.chunking import Chunker
from retrieval.embedder import SentenceTransformerEmbedder
from retrieval.folder import walk
from retrieval.model_folder import packaged_minilm
from retrieval.passages import Passage, Scope
from retrieval.pipeline import Retriever
from retrieval.store import EVERYONE, Store
from serving.sections import Retrieval

_ME, _KNOWLEDGE, _TOP_K = Scope("bench", EVERYONE), "handbook", 4
_ENGINES = {
    "no cache": ("--no-enable-prefix-caching",),
    "blocks of 128": ("--block-size", "128"),
    "blocks of 32": ("--block-size", "32"),
}
_OUTPUT_TOKENS = 32
_ORDERS = ("document order", "best first")
_COUNTERS = ("vllm:prefix_cache_queries_total", "vllm:prefix_cache_hits_total", "vllm:prompt_tokens_total")


@dataclass(frozen=True, slots=True)
class Arm:
    """One engine and one order; medians over rounds. `hit_rate`: share of prompt tokens found in the cache.

    `cost_share`: engine seconds per query, and so its cost at any price per hour, against the first arm's.
    """

    engine: str
    order: str
    hit_rate: float
    prompt_tokens: float
    seconds_per_query: float
    usd_per_1000_at_1_usd_per_hour: float
    cost_share: float
    ttft_p50_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """The first arm has no cache."""

    model: str
    questions: int
    distinct: int
    output_tokens: int
    concurrency: int
    rounds: int
    arms: tuple[Arm, ...]
    origin: Origin


def found_passages(examples: Path) -> dict[str, tuple[Passage, ...]]:
    """Of every answerable question on the handbook that clears the default minimum score."""
    embedder = SentenceTransformerEmbedder(packaged_minilm())
    lines = (examples / "handbook-questions.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [each["question"] for each in map(json.loads, lines) if each["kind"] == "answerable"]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder), embedder.fingerprint, embedder.dimensions)
        retriever = Retriever(store, embedder, Chunker(embedder.tokenizer, embedder.max_tokens))
        retriever.ingest_many(
            _ME, _KNOWLEDGE, [(source, file.read_bytes()) for source, file in walk(examples / "handbook").files]
        )
        least = Retrieval.model_validate({}).min_score
        found = {each: retriever.search(_ME, _KNOWLEDGE, each, _TOP_K, least).passages for each in asked}
        store.close()
    return {question: passages for question, passages in found.items() if passages}


def compose(question: str, passages: Sequence[Passage], order: str) -> list[Message]:
    """As the gateway does. It sorts by source, which the model is not shown: renamed by rank, the best comes first."""
    if order == "best first":
        passages = [replace(each, source=f"{rank:03}") for rank, each in enumerate(passages)]
    return prompt.compose([{"role": "user", "content": question}], passages, Retrieval.model_validate({}).instructions)


def measure(given: argparse.Namespace, origin: Origin) -> Result:
    """Starts all engines; their arms take turns, each with an empty cache."""
    passages = found_passages(given.examples)
    drawn = random.Random(7).choices(sorted(passages), k=given.requests)  # noqa: S311  # repeatable, no secret
    console = Console(stderr=True)
    with ExitStack() as stack:
        variables = {"VLLM_SERVER_DEV_MODE": "1"}  # for the endpoint that empties the cache
        servers = {
            name: stack.enter_context(
                vllm(
                    given.model,
                    given.logs / f"{name.replace(' ', '-')}.log",
                    *flags,
                    "--enforce-eager",
                    environment=variables,
                )
            )
            for name, flags in _ENGINES.items()
        }
        ready(*(server.url for server in servers.values()))
        seen: dict[tuple[str, str], list[tuple[float, ...]]] = {(e, o): [] for e in servers for o in _ORDERS}
        for _ in range(given.rounds):
            for (engine, order), rounds in seen.items():
                rounds.append(
                    _round(servers[engine], [compose(each, passages[each], order) for each in drawn], given.concurrency)
                )
                console.print(f"{engine}, {order}: hit rate {rounds[-1][0]:.3f}, {rounds[-1][2]:.3f} s per query")
    first = statistics.median(each[2] for each in next(iter(seen.values())))
    arms = tuple(_arm(engine, order, rounds, first) for (engine, order), rounds in seen.items())
    return Result(
        given.model.name, len(drawn), len(set(drawn)), _OUTPUT_TOKENS, given.concurrency, given.rounds, arms, origin
    )


def _round(server: Server, prompts: list[list[Message]], concurrency: int) -> tuple[float, ...]:
    reset = urllib.request.Request(f"{server.url}/reset_prefix_cache", method="POST")  # noqa: S310  # our own child
    urllib.request.urlopen(reset, timeout=30).close()  # noqa: S310  # the same
    before = server.counters(*_COUNTERS)
    workload = Workload("handbook", lambda index: Prompt(prompts[index]))
    done = drive(
        server.url, ("base",), workload, concurrency=concurrency, requests=len(prompts), max_tokens=_OUTPUT_TOKENS
    )
    queried, hits, tokens = (now - then for now, then in zip(server.counters(*_COUNTERS), before, strict=True))
    rate = hits / queried if queried else 0.0
    return rate, tokens / len(prompts), done.seconds / len(prompts), done.ttft.p50 if done.ttft else 0.0


def _arm(engine: str, order: str, rounds: list[tuple[float, ...]], first: float) -> Arm:
    rate, tokens, seconds, ttft = (statistics.median(column) for column in zip(*rounds, strict=True))
    usd = seconds / 3600 * 1000
    return Arm(
        engine,
        order,
        round(rate, 3),
        round(tokens, 1),
        round(seconds, 4),
        round(usd, 4),
        round(seconds / first, 3),
        round(ttft, 3),
    )


def main() -> None:
    """Prints the result and writes it as JSON."""
    parser = options(str(__doc__), requests=120, rounds=1, concurrency=8, made_up=False)
    parser.add_argument("--examples", type=Path, default=Path("examples"))
    given = parser.parse_args()
    show(measure(given, origin_of("benchmarks.engine.prefix", given)), given.out)


if __name__ == "__main__":
    main()
