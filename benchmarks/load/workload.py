"""What a load run asks, and when: prompts from a file or made up, and Poisson arrival times.

Both are functions of a seed, so that a run can be repeated.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.errors import PlanError

Message = dict[str, Any]

# Each is one token, with its leading space, in the SmolLM2 tokenizer. The usage in every answer says what was counted.
_WORDS = (
    "time year people way day man thing woman life child world school state family student group country problem hand "
    "part place case week company system program question work government number night point home water room mother "
    "area money story fact month lot right study book eye job word business issue side kind head house service friend "
    "father power hour game line end member law car city community name president team minute idea body information "
    "back parent face others level office door health person art war history party result change morning reason "
    "research moment air teacher force education"
)


@dataclass(frozen=True)
class Workload:
    """A source of chat messages. `messages(i)` is what request number i sends; the label says where they come from."""

    label: str
    messages: Callable[[int], list[Message]]


def questions(path: Path) -> Workload:
    """Prompts from JSONL, in order and round again: {"question": ...}, {"prompt": ...} or {"messages": [...]} a line.

    Repeats hit the engine's prefix cache; use a file with more lines than requests, or `synthetic`, to avoid that.
    """
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise PlanError(f"cannot read the prompts file {path}: {error.strerror or error}") from error
    prompts = [_prompt(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]
    if not prompts:
        raise PlanError(f"{path} has no prompts; write one JSON object with a question per line")
    return Workload(f"{path.name} ({len(prompts)} prompts)", lambda index: prompts[index % len(prompts)])


def synthetic(prompt_tokens: int, seed: int = 0) -> Workload:
    """A different prompt of about `prompt_tokens` tokens (chat template not counted) for every request."""
    if prompt_tokens < 1:
        raise PlanError("a synthetic prompt needs at least one token")

    def messages(index: int) -> list[Message]:
        words = random.Random(f"{seed}:{index}").choices(_WORDS.split(), k=prompt_tokens)
        return [{"role": "user", "content": " ".join(words)}]

    return Workload(f"synthetic ({prompt_tokens} tokens, seed {seed})", messages)


def poisson_arrivals(rate: float, seed: int) -> Iterator[float]:
    """Arrival times in seconds from the start, for ever: independent users at `rate` requests per second."""
    source = random.Random(seed)
    at = 0.0
    while True:
        at += source.expovariate(rate)
        yield at


def _prompt(line: bytes, where: str) -> list[Message]:
    try:
        entry = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise PlanError(f"{where} is not JSON: {error}") from error
    if isinstance(entry, dict):
        if isinstance(entry.get("messages"), list) and entry["messages"]:
            return list(entry["messages"])
        text = entry.get("question", entry.get("prompt"))
        if isinstance(text, str) and text.strip():
            return [{"role": "user", "content": text}]
    raise PlanError(f'{where} needs a "question", a "prompt" or "messages"')
