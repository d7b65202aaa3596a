"""What a load run asks: prompts from a file, or made up in the shapes that matter to an engine.

All are functions of a seed and of the request's number, so that a run can be repeated and two servers can be asked the
same. Which served model and which tenant a request belongs to is the plan's business.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks.errors import PlanError
from benchmarks.load.text import Text

Message = dict[str, Any]

_INSTRUCTIONS_TOKENS = 64
_QUESTION_TOKENS = 32
_PASSAGES = 4


@dataclass(frozen=True)
class Prompt:
    """What one request asks; with `max_tokens` it wants exactly so many back, whatever the plan says."""

    messages: list[Message]
    max_tokens: int | None = None


@dataclass(frozen=True)
class Workload:
    """A source of prompts. `prompt(i)` is what request number i asks; the label says where they come from."""

    label: str
    prompt: Callable[[int], Prompt]


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
    return Workload(f"{path.name} ({len(prompts)} prompts)", lambda index: Prompt(prompts[index % len(prompts)]))


def synthetic(prompt_tokens: int, seed: int = 0, text: Text | None = None) -> Workload:
    """A prompt for every request that shares nothing with the others, as long as asked (chat template not counted)."""
    words = text or Text()
    _at_least(prompt_tokens, 1)

    def prompt(index: int) -> Prompt:
        return Prompt([_user(words.of(prompt_tokens, f"{seed}:{index}"))])

    return Workload(f"random prompts of {words.counted(prompt_tokens)}, seed {seed}", prompt)


def shared_prefix(
    prompt_tokens: int, prefix_tokens: int, prefixes: int = 1, seed: int = 0, text: Text | None = None
) -> Workload:
    """Prompts that begin with one of a few long system prompts: what a prefix cache can save at most."""
    words = text or Text()
    _at_least(prompt_tokens - prefix_tokens, 1)
    _at_least(prefixes, 1)

    def prompt(index: int) -> Prompt:
        which = random.Random(f"{seed}:{index}:prefix").randrange(prefixes)
        system = words.of(prefix_tokens, f"{seed}:prefix:{which}")
        own = words.of(prompt_tokens - prefix_tokens, f"{seed}:{index}")
        return Prompt([{"role": "system", "content": system}, _user(own)])

    said = f"{words.counted(prompt_tokens)}, the first {prefix_tokens} one of {prefixes} prefixes, seed {seed}"
    return Workload(f"shared prefix: {said}", prompt)


def rag(prompt_tokens: int, topics: int, seed: int = 0, text: Text | None = None) -> Workload:
    """Prompts as retrieval composes them: instructions, four passages on one of so many topics, a question of its own.

    Topics are asked with Zipf's frequencies (the n-th most popular 1/n as often as the first), so popular passages
    repeat. For retrieval itself, ask a served model with a knowledge base and name a file of questions.
    """
    words = text or Text()
    passage = (prompt_tokens - _INSTRUCTIONS_TOKENS - _QUESTION_TOKENS) // _PASSAGES
    _at_least(passage, 1)
    _at_least(topics, 1)
    weights = [1 / rank for rank in range(1, topics + 1)]
    instructions = words.of(_INSTRUCTIONS_TOKENS, f"{seed}:instructions")

    def prompt(index: int) -> Prompt:
        topic = random.Random(f"{seed}:{index}:topic").choices(range(topics), weights)[0]
        passages = [words.of(passage, f"{seed}:{topic}:{number}") for number in range(_PASSAGES)]
        system = words.joined([instructions, *passages])
        question = words.of(prompt_tokens - words.count(system), f"{seed}:{index}")
        return Prompt([{"role": "system", "content": system}, _user(question)])

    label = f"RAG: {words.counted(prompt_tokens)} with {_PASSAGES} passages of {passage}, {topics} topics, seed {seed}"
    return Workload(label, prompt)


def lengths(shapes: list[tuple[int, int]], label: str, seed: int = 0, text: Text | None = None) -> Workload:
    """Random prompts of these (prompt tokens, output tokens), one request each: those of a trace."""
    words = text or Text()

    def prompt(index: int) -> Prompt:
        prompt_tokens, output_tokens = shapes[index]
        return Prompt([_user(words.of(prompt_tokens, f"{seed}:{index}"))], max_tokens=output_tokens)

    return Workload(f"lengths of {label}, random text, seed {seed}", prompt)


def _user(content: str) -> Message:
    return {"role": "user", "content": content}


def _at_least(number: int, least: int) -> None:
    if number < least:
        raise PlanError("the prompt is too short for what is to be in it; give more --prompt-tokens, or fewer prefixes")


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
            return [_user(text)]
    raise PlanError(f'{where} needs a "question", a "prompt" or "messages"')
