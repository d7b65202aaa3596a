"""Whether a GPU engine says what the CPU engine says: the first greedy tokens of SmolLM2, with and without adapter.

The CPU's answers are a committed file, made by `python -m benchmarks.gpu references --device cpu`. Two right engines
differ where two tokens are nearly as likely, since sums are added up in another order; so nine of ten must agree, and
each that does not is recorded with the place where it parts.
"""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from adapters.manifest import Manifest
from benchmarks.errors import EndpointError, PlanError
from benchmarks.gpu.servers import Engine
from benchmarks.gpu.setup import Setup

TOKENS = 16
AGREEING = 0.9
REFERENCES = Path(__file__).with_name("references.json")
_ROOT = Path(__file__).parents[2]
_QUESTIONS = _ROOT / "examples" / "handbook-questions.jsonl"
_ADAPTER = _ROOT / "examples" / "support" / "adapter"
_BASE, _ADAPTED = "base", "adapter"
_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
Answers = dict[str, list[list[int]]]  # per variant, the first tokens of the answer to each question


@dataclass(frozen=True)
class Agreement:
    """Of one variant: how many first tokens are the same, and where the others part (question, token)."""

    equal: int
    questions: int
    parted: tuple[tuple[int, int], ...]

    @property
    def share(self) -> float:
        """Of questions whose first tokens are all equal."""
        return self.equal / self.questions


def references(setup: Setup) -> None:
    """Writes what this machine's engine answers into the committed file."""
    document = {"adapter": _version(), "questions": _QUESTIONS.name, "tokens": TOKENS, "answers": _ask(setup)}
    setup.write("references", document)


def correctness(setup: Setup) -> None:
    """Compares this machine's answers with the committed ones."""
    known = _known()
    if known["adapter"] != _version():
        raise PlanError(f"{REFERENCES.name} belongs to {known['adapter']}, not {_version()}; make it again on a CPU")
    found = _ask(setup)
    agreed = {name: agreement(known["answers"][name], answers) for name, answers in found.items()}
    variants = {
        name: {"questions": each.questions, "equal": each.equal, "share": each.share, "parted": each.parted}
        for name, each in agreed.items()
    }
    holds = all(each.share >= AGREEING for each in agreed.values())
    document = {"tokens": TOKENS, "at_least": AGREEING, "holds": holds, "variants": variants}
    setup.write("correctness", {**document, "adapter": known["adapter"], "reference": known["origin"]})
    said = ", ".join(f"{name} {each.equal} of {each.questions}" for name, each in agreed.items())
    setup.console.print(
        f"first {TOKENS} tokens equal: {said}: {'holds' if holds else 'DOES NOT HOLD'}", highlight=False
    )


def agreement(expected: list[list[int]], found: list[list[int]]) -> Agreement:
    """Of the answers found with as many of the expected ones."""
    parted = []
    for number, (theirs, ours) in enumerate(zip(expected, found, strict=False)):
        if theirs != ours:
            place = next((at for at, pair in enumerate(zip(theirs, ours, strict=False)) if pair[0] != pair[1]), None)
            parted.append((number, min(len(theirs), len(ours)) if place is None else place))
    return Agreement(len(found) - len(parted), len(found), tuple(parted))


def _known() -> dict[str, Any]:
    try:
        known: dict[str, Any] = json.loads(REFERENCES.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(f"there is no {REFERENCES}; make it with `python -m benchmarks.gpu references`") from error
    return known


def _version() -> str:
    return f"support@{Manifest.read(_ADAPTER).version}"


def _ask(setup: Setup) -> Answers:
    # The CPU computes in float32. A GPU's fast attention takes float16, which is eight times as fine as bfloat16: in
    # bfloat16 the CPU engine does not even agree with itself once it compiles, and the test would be one of rounding.
    arguments, dtype = ["--max-model-len", "2048"], "float16"
    if not setup.machine.gpu:
        # The output layer is costly to adapt there, and this adapter leaves it alone.
        arguments += ["--enforce-eager", "--lora-target-modules", *_MODULES]
        dtype = "float32"
    engine = Engine(setup.base, _BASE, {_ADAPTED: _ADAPTER}, 8, tuple(arguments), dtype)
    url = setup.serving(engine)
    lines = _QUESTIONS.read_bytes().splitlines()[: setup.scale.questions]
    questions = [str(orjson.loads(line)["question"]) for line in lines]
    return asyncio.run(_all_first_tokens(url, questions))


async def _all_first_tokens(url: str, questions: list[str]) -> Answers:
    """One after another: what shares a batch changes sums, and so ties."""
    async with aiohttp.ClientSession() as session:
        return {
            model: [await _first_tokens(session, url, model, question) for question in questions]
            for model in (_BASE, _ADAPTED)
        }


async def _first_tokens(session: aiohttp.ClientSession, url: str, model: str, question: str) -> list[int]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "return_token_ids": True,
    }
    async with session.post(f"{url}/chat/completions", json=body) as response:
        answer = await response.json(content_type=None)
        if response.status != 200 or not answer["choices"][0].get("token_ids"):
            raise EndpointError(f"{url} gave no token ids: HTTP {response.status} {str(answer)[:200]}")
        ids: list[int] = answer["choices"][0]["token_ids"]
        return ids
