"""Classification: the answer is one of a list of labels."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.adapter_eval.figures import Draw, Figure, bootstrap, share
from benchmarks.adapter_eval.questions import Question, TaskError
from benchmarks.adapter_eval.task import Answer, Ask, Scored, Task

_CONFUSIONS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification(Task):
    """`labels` default to those of the data. Constrained, the engine can answer with nothing but a label."""

    kind: Literal["classification"]
    labels: tuple[str, ...] = ()
    constrained: bool = True

    def questions(self) -> list[Question]:
        """Each with one label as its answer. Raises TaskError."""
        found = Task.questions(self)
        self.require_answers(found)
        if strange := sorted({each.answers[0] for each in found} - set(self.labels)) if self.labels else []:
            raise TaskError(f"{self.data.name} has labels that the task file does not list: {', '.join(strange[:5])}")
        return found

    def asks(self, questions: Sequence[Question]) -> list[Ask]:
        """See Task.asks."""
        choice = {"structured_outputs": {"choice": list(self._labels(questions))}} if self.constrained else {}
        return [self.chat(question, **choice) for question in questions]

    def score(self, questions: Sequence[Question], answers: Sequence[Answer]) -> Scored:
        """Accuracy, macro-F1 over the labels of the data, and every confusion."""
        expected = [question.answers[0] for question in questions]
        said = [answer.text.strip() for answer in answers]
        labels = self._labels(questions)
        pairs = Counter(zip(expected, said, strict=True))
        confusion: dict[str, dict[str, int]] = {label: {} for label in labels}
        for (right, given), count in sorted(pairs.items()):
            confusion[right][given] = count
        wrong = [(count, right, given) for (right, given), count in pairs.most_common() if right != given]
        notes = [f"{count} x {right!r} taken for {given!r}" for count, right, given in wrong[:_CONFUSIONS_SHOWN]]
        if strange := sum(given not in labels for given in said):
            notes.append(f"{strange} answers are no label")
        hits = [right == given for right, given in zip(expected, said, strict=True)]
        return Scored([share("accuracy", hits), macro_f1(expected, said)], {"confusion": confusion}, notes)

    def _labels(self, questions: Sequence[Question]) -> tuple[str, ...]:
        return self.labels or tuple(sorted({question.answers[0] for question in questions}))


def macro_f1(expected: Sequence[str], said: Sequence[str]) -> Figure:
    """The mean of the F1 scores of the labels in `expected`; a label that a resample lacks does not count in it."""
    labels = sorted(set(expected))
    number = {label: index for index, label in enumerate(labels)}
    right = np.array([number[label] for label in expected])
    given = np.array([number.get(label, len(labels)) for label in said])

    def statistic(draw: Draw) -> float:
        of, to = right[draw], given[draw]
        support = np.bincount(of, minlength=len(labels))
        claimed = np.bincount(to, minlength=len(labels) + 1)[:-1]
        hits = np.bincount(of[of == to], minlength=len(labels))
        present = support > 0
        return float(np.mean(2 * hits[present] / (support + claimed)[present]))

    return bootstrap("macro_f1", statistic, len(expected))
