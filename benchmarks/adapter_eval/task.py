"""What every kind of task has in common: what is asked, and how the answers are judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from adapters.manifest import NAME_PATTERN
from benchmarks.adapter_eval.figures import Figure
from benchmarks.adapter_eval.questions import Question, TaskError, read_questions

CHAT, COMPLETIONS = "/chat/completions", "/completions"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request without its model; `path` is under the endpoint's base URL."""

    path: str
    body: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `logprob` sums the natural logarithms of `scored` prompt tokens' probabilities, where asked for.

    `adapter` is the version that answered, as the endpoint says. `error` is its reason for refusing this one request:
    the text is then empty.
    """

    text: str
    seconds: float
    completion_tokens: int = 0
    usage_usd: str | None = None
    simulated: bool = False
    logprob: float | None = None
    scored: int = 0
    adapter: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """Figures, named without their task, and what is worth keeping beside them. `notes` are for people."""

    figures: Sequence[Figure]
    detail: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """The keys of every task file; `data` is a file of questions, paths are relative to the task file."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    data: Path
    system: str | None = None
    max_tokens: Annotated[int, Field(ge=1)] = 128
    # Whether the figures mean nothing without the base model's.
    needs_base: ClassVar[bool] = False

    def questions(self) -> list[Question]:
        """Raises TaskError."""
        return read_questions(self.data, self.system)

    def asks(self, questions: Sequence[Question]) -> list[Ask]:
        """Every request, in the order in which `score` gets the answers."""
        return [self.chat(question) for question in questions]

    def chat(self, question: Question, **fields: Any) -> Ask:
        """A greedy chat completion."""
        body = {"messages": list(question.messages), "max_tokens": self.max_tokens, "temperature": 0}
        return Ask(CHAT, {**body, **fields})

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Scored:
        """Judge the answers to `asks(questions)`."""
        raise NotImplementedError

    def compare(
        self, questions: Sequence[Question], answers: Sequence[Answer], base: Sequence[Answer]
    ) -> Sequence[Figure]:
        """What only both models' answers to the same requests can say, under names of their own."""
        del questions, answers, base
        return ()

    def require_answers(self, questions: Sequence[Question]) -> None:
        """Raises TaskError if a question has no right answer to compare with."""
        if lacking := sum(not question.answers for question in questions):
            raise TaskError(
                f"{self.data.name}: {lacking} questions have no right answer: end them with the assistant's message, "
                'or add "answers"'
            )
