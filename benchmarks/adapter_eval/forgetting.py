"""What an adapter made the base model forget: general questions it can no longer answer, plain text it finds harder.

A question counts as answered if one of its answers is among the words of the reply, so that an adapter's style costs
nothing. Perplexity is that of held-out text, as the engine's own probabilities of its tokens give it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from adapters.gate import FORGETTING
from benchmarks.adapter_eval.figures import Draw, Figure, bootstrap, mean, share
from benchmarks.adapter_eval.match import plain
from benchmarks.adapter_eval.questions import Question, TaskError, read_lines
from benchmarks.adapter_eval.task import COMPLETIONS, Answer, Ask, Scored, Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgetting(Task):
    """`texts` is a file of passages with blank lines between them, which nobody trained on."""

    kind: Literal["forgetting"]
    texts: Path
    needs_base: ClassVar[bool] = True

    def questions(self) -> list[Question]:
        """Each with a right answer. Raises TaskError."""
        found = Task.questions(self)
        self.require_answers(found)
        return found

    def asks(self, questions: Sequence[Question]) -> list[Ask]:
        """See Task.asks: the questions, then the texts."""
        passages = [each.strip() for each in "\n".join(read_lines(self.texts)).split("\n\n") if each.strip()]
        if not passages:
            raise TaskError(f"{self.texts.name} holds no text: write passages with blank lines between them")
        scored = [
            Ask(COMPLETIONS, {"prompt": each, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0})
            for each in passages
        ]
        return [*(self.chat(question) for question in questions), *scored]

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Scored:
        """The share of questions answered, and the perplexity of the texts."""
        hits, texts = _right(questions, answers), answers[len(questions) :]
        return Scored([share("answered", hits), _perplexity("perplexity", texts)])

    def compare(
        self, questions: Sequence[Question], answers: Sequence[Answer], base: Sequence[Answer]
    ) -> Sequence[Figure]:
        """The share of questions lost (less those gained), and how many times higher perplexity is."""
        mine, theirs = _right(questions, answers), _right(questions, base)
        lost = [float(was) - float(now) for was, now in zip(theirs, mine, strict=True)]
        texts, base_texts = answers[len(questions) :], base[len(questions) :]
        return [
            mean(FORGETTING, lost, "of the questions"),
            _perplexity("perplexity_ratio", texts, base_texts, "times"),
        ]


def _right(questions: Sequence[Question], answers: Sequence[Answer]) -> list[bool]:
    said = [f" {plain(answer.text)} " for answer in answers[: len(questions)]]
    return [
        any(f" {plain(right)} " in text for right in question.answers)
        for question, text in zip(questions, said, strict=True)
    ]


def _perplexity(name: str, texts: Sequence[Answer], base: Sequence[Answer] = (), unit: str = "per token") -> Figure:
    """exp of the mean negative log-probability of a token; relative to `base`, if there is one."""
    if lacking := [text.error or "no probabilities" for text in (*texts, *base) if text.logprob is None]:
        raise TaskError(
            f"{len(lacking)} texts could not be scored ({lacking[0]}): the endpoint must give `prompt_logprobs` "
            "to this key (an operator's), and the texts must not be longer than server.max_scored_bytes"
        )
    gain = np.array([-(text.logprob or 0.0) for text in texts])
    for index, text in enumerate(base):
        gain[index] += text.logprob or 0.0
    tokens = np.array([text.scored for text in texts])

    def statistic(draw: Draw) -> float:
        return math.exp(gain[draw].sum() / tokens[draw].sum())

    return bootstrap(name, statistic, len(texts), unit)
