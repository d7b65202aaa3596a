"""Style and format: regular expressions that every answer must match, or must not."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from benchmarks.adapter_eval.figures import share
from benchmarks.adapter_eval.questions import Question
from benchmarks.adapter_eval.task import Answer, Scored, Task


def _compiles(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression ({error})") from None
    return pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`whole`: the answer is nothing but this; `has`: it is somewhere; `lacks`: it is nowhere."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    name: str
    how: Literal["whole", "has", "lacks"]
    pattern: Annotated[str, AfterValidator(_compiles)]

    def kept(self, text: str) -> bool:
        """White space around the text does not count."""
        if self.how == "whole":
            return re.fullmatch(self.pattern, text.strip()) is not None
        return (re.search(self.pattern, text) is not None) == (self.how == "has")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules(Task):
    """An answer passes if it keeps every rule."""

    kind: Literal["rules"]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Scored:
        """The share that passes, and that of each rule."""
        said = [answer.text for _, answer in zip(questions, answers, strict=True)]
        kept = {rule.name: [rule.kept(text) for text in said] for rule in self.rules}
        passed = [all(column) for column in zip(*kept.values(), strict=True)]
        each = [share(name, hits) for name, hits in kept.items()] if len(kept) > 1 else []
        failing = [text for text, good in zip(said, passed, strict=True) if not good]
        return Scored([share("passed", passed), *each], {"failing": failing})
