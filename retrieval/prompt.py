"""What the model is told and what the client is shown. Pure functions from passages to plain OpenAI dicts.

Passages are data that anybody may have written: a document must not be able to open a turn of its own, so control
tokens of chat templates are broken before the text meets a template.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from retrieval.passages import Passage

Message = dict[str, Any]

_CONTROL = re.compile(r"<(?=[|｜]|/?s>|(?:start|end)_of_turn>)|\[(?=/?INST\])", re.IGNORECASE)


def query_of(messages: Sequence[Mapping[str, Any]]) -> str:
    """The text of the last user message, "" without one. Parts that are not text are left out."""
    for message in reversed(messages):
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                texts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
                return "\n".join(text for text in texts if isinstance(text, str))
            return content if isinstance(content, str) else ""
    return ""


def compose(messages: Sequence[Message], passages: Sequence[Passage], instructions: str) -> list[Message]:
    """New messages whose system message ends with the instructions and the numbered passages.

    Passages stand in document order, not by score: questions that find the same ones then share the engine's prefix
    cache. Without passages the messages are returned as they are.
    """
    if not passages:
        return list(messages)
    blocks = [
        f"[{number}] {neutralise(_label(passage))}\n{neutralise(passage.text)}"
        for passage, number in _numbers(passages).items()
    ]
    told = "\n\n".join([f"{instructions}\n\nPassages:", *blocks])
    for at, message in enumerate(messages):
        if message.get("role") in ("system", "developer"):
            merged = {**message, "content": _append(message.get("content"), told)}
            return [*messages[:at], merged, *messages[at + 1 :]]
    return [{"role": "system", "content": told}, *messages]


def annotations(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """OpenAI file citations, best first. `number` is the [n] that the model was shown."""
    numbers = _numbers(passages)
    return [
        {
            "type": "file_citation",
            "file_citation": {
                "file_id": passage.source,
                "filename": passage.source,
                "title": passage.title,
                "passage_id": passage.id,
                "number": numbers[passage],
                "score": round(passage.score, 4),
                "start_index": passage.start,
                "end_index": passage.end,
            },
        }
        for passage in passages
    ]


def describe(passages: Sequence[Passage]) -> list[dict[str, Any]]:
    """The passages themselves for `breakeven.retrieval.passages`, best first."""
    numbers = _numbers(passages)
    return [
        {
            "id": passage.id,
            "number": numbers[passage],
            "knowledge": passage.knowledge,
            "source": passage.source,
            "title": passage.title,
            "heading": passage.heading,
            "text": passage.text,
            "start": passage.start,
            "end": passage.end,
            "score": round(passage.score, 4),
        }
        for passage in passages
    ]


def neutralise(text: str) -> str:
    """The text with a space inside everything that a chat template could read as a control token."""
    return _CONTROL.sub(lambda match: match[0] + " ", text)


def _numbers(passages: Sequence[Passage]) -> dict[Passage, int]:
    ordered = sorted(passages, key=lambda passage: (passage.source, passage.start, passage.id))
    return {passage: number for number, passage in enumerate(ordered, start=1)}


def _label(passage: Passage) -> str:
    return f"{passage.title} > {passage.heading}" if passage.heading else passage.title


def _append(content: object, told: str) -> str | list[Any]:
    if isinstance(content, list):
        return [*content, {"type": "text", "text": told}]
    return f"{content}\n\n{told}" if content else told
