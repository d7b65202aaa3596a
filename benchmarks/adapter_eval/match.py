"""Short answers: exact match and token F1 against the right ones, as SQuAD's evaluation defines them."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.adapter_eval.figures import mean, share
from benchmarks.adapter_eval.questions import Question
from benchmarks.adapter_eval.task import Answer, Scored, Task

_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match(Task):
    """Case, punctuation and English articles do not count; of several right answers the nearest does."""

    kind: Literal["match"]

    def questions(self) -> list[Question]:
        """Each with a right answer. Raises TaskError."""
        found = Task.questions(self)
        self.require_answers(found)
        return found

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Scored:
        """Exact match and mean token F1."""
        pairs = list(zip(questions, answers, strict=True))
        exact = [any(plain(right) == plain(answer.text) for right in each.answers) for each, answer in pairs]
        near = [max(token_f1(right, answer.text) for right in each.answers) for each, answer in pairs]
        return Scored([share("exact", exact), mean("token_f1", near)])


def plain(text: str) -> str:
    """Lower case, without punctuation and articles, single spaces."""
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


def token_f1(right: str, said: str) -> float:
    """Between the words of two texts; 1 if both have none."""
    words, given = plain(right).split(), plain(said).split()
    shared = sum((Counter(words) & Counter(given)).values())
    if not words or not given:
        return float(words == given)
    return 2 * shared / (len(words) + len(given))
