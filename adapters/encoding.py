"""From a conversation to token ids and labels, with the base model's own tokenizer and chat template.

Both the training and the check of a data set count with it, so that what the check promises is what is trained.
Only assistant turns of weight 1 carry loss. A turn is found by rendering the conversation up to it: that needs no
marks in the template, and holds for templates that render earlier turns differently, too, by giving each turn a
sequence of its own.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from adapters.dataset import Dataset, Example, Message
from adapters.errors import MissingBase

IGNORED = -100  # the label of a token without loss, as torch's cross entropy takes it


@dataclass(frozen=True, slots=True)
class Encoded:
    """One training sequence: `labels` equal `ids` where there is loss and are IGNORED elsewhere."""

    ids: tuple[int, ...]
    labels: tuple[int, ...]

    @property
    def trained(self) -> int:
        """Tokens that carry loss."""
        return sum(label != IGNORED for label in self.labels)


class Encoder:
    """Renders and tokenizes conversations as the base model in `base_dir` expects them."""

    def __init__(self, base_dir: Path) -> None:
        # Heavy: seconds to import.
        from transformers import AutoTokenizer

        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(base_dir, local_files_only=True)
        except (OSError, ValueError) as error:
            raise MissingBase(f"{base_dir} has no usable tokenizer ({error}): give a base model checkpoint") from None
        self._template = self.tokenizer.chat_template
        if not self._template:
            raise MissingBase(f"{base_dir} has no chat template: take the instruction-tuned variant of the model")

    def encode(self, example: Example) -> tuple[Encoded, ...]:
        """One sequence, or one per trained turn where the template renders earlier turns differently.

        Raises ValueError that says why, when the base model cannot express the example.
        """
        if example.uses_tools and "tool" not in json.dumps(self._template):
            raise ValueError(
                "uses tools, which the base model's chat template would drop: take a base model with tool calls"
            )
        turns = [at for at, message in enumerate(example.messages) if message.role == "assistant" and message.weight]
        try:
            whole = self._ids(example, turns[-1] + 1)
            earlier = [self._span(example, at, whole) for at in turns[:-1]]
            if not all(earlier):
                return tuple(self._last_turn(example, at) for at in turns)
            last = self._last_turn(example, turns[-1])
        except TemplateError as error:
            raise ValueError(f"the base model's chat template refuses it: {error}") from None
        labels = list(last.labels)
        for start, end in filter(None, earlier):
            labels[start:end] = whole[start:end]
        return (Encoded(last.ids, tuple(labels)),)

    def encode_all(self, data: Dataset) -> tuple[list[tuple[int, Encoded]], list[tuple[int, str]]]:
        """Every example as (line, sequence), and (line, why) for those that cannot be expressed."""
        encoded: list[tuple[int, Encoded]] = []
        problems: list[tuple[int, str]] = []
        for example in data.examples:
            try:
                encoded.extend((example.line, sequence) for sequence in self.encode(example))
            except ValueError as error:
                problems.append((example.line, str(error)))
        return encoded, problems

    def _span(self, example: Example, at: int, whole: list[int]) -> tuple[int, int] | None:
        """Where message `at` stands in `whole`; None if the template renders its beginning or end differently there."""
        before, through = self._ids(example, at, prompt=True), self._ids(example, at + 1)
        start, end = len(before), len(through)
        return (start, end) if whole[:start] == before and whole[:end] == through else None

    def _last_turn(self, example: Example, at: int) -> Encoded:
        whole = self._ids(example, at + 1)
        start = _common_prefix(self._ids(example, at, prompt=True), whole)
        return Encoded(tuple(whole), tuple([IGNORED] * start + whole[start:]))

    def _ids(self, example: Example, count: int, *, prompt: bool = False) -> list[int]:
        """Of the first `count` messages; `prompt` adds what makes the model begin an answer."""
        ids: list[int] = self.tokenizer.apply_chat_template(
            [message.as_dict() for message in example.messages[:count]],
            tools=list(example.tools) or None,
            add_generation_prompt=prompt,
            return_dict=True,
        )["input_ids"]
        return ids


def as_dicts(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The form that chat templates take."""
    return [message.as_dict() for message in messages]


def _common_prefix(some: list[int], others: list[int]) -> int:
    length = 0
    for mine, theirs in zip(some, others, strict=False):
        if mine != theirs:
            break
        length += 1
    return length
