"""Sets the minimum score of a knowledge base from questions, instead of guessing it, and notices when it is outdated.

Questions that the documents answer (covered) and questions that they do not are searched for as a user's would be; the
lowest minimum score at which the answered ones are covered often enough is the one to use. What it was measured on is
kept with it: once too many documents are others than then, the score is still in force but no longer measured.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

from retrieval.catalogue import DocumentInfo
from retrieval.errors import CalibrationFailed
from retrieval.kept import identities
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.questions import LabelledQuestion
from retrieval.separation import Interval, Point, auroc, curve, wilson

FEWEST = 10  # questions of each kind; with fewer the interval spans everything
LEAST_ANSWERED = 0.5  # share of covered questions; below it a knowledge base would hardly be worth asking
TOP_K = 4  # passages among which the named file counts as found
_POINTS = 100


@dataclass(frozen=True, slots=True)
class Scored:
    """A question with the best score that it found; `found`: the file that answers it was among the passages."""

    question: LabelledQuestion
    best_score: float
    found: bool


@dataclass(frozen=True, slots=True)
class Calibration:
    """`precision` is that at `min_score`, of the questions given: covered among the answered. `answered`: share of the
    covered that are, `refused`: share of the uncovered that are, `found`: share of the covered whose file was among
    the first four. `documents` identifies each document by source and content. `generated`: the questions were made
    from the passages, so they are closer to them than a user's are."""

    tenant: str
    knowledge: str
    min_score: float
    target_precision: float
    precision: Interval
    answered: float
    refused: float
    found: float
    auroc: Interval
    covered: int
    uncovered: int
    mean_covered: float
    mean_uncovered: float
    generated: bool
    questions_sha256: str
    embedder: str
    created: str
    documents: tuple[str, ...]
    passages: int
    curve: tuple[Point, ...]

    def summary(self) -> dict[str, Any]:
        """All but the long parts: the curve and the documents."""
        short = {name: value for name, value in asdict(self).items() if name != "curve"}
        return {**short, "documents": len(self.documents)}

    def to_json(self) -> str:
        """For `from_json`."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError, KeyError or TypeError for anything else than `to_json` wrote."""
        fields: dict[str, Any] = json.loads(text)
        fields["precision"], fields["auroc"] = Interval(**fields["precision"]), Interval(**fields["auroc"])
        fields["documents"] = tuple(fields["documents"])
        fields["curve"] = tuple(Point(**point) for point in fields["curve"])
        return cls(**fields)


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What a calibration was measured on."""

    tenant: str
    knowledge: str
    embedder: str
    documents: Sequence[DocumentInfo]
    generated: bool


def check_enough(questions: Sequence[LabelledQuestion]) -> None:
    """Raises CalibrationFailed if there are too few of a kind."""
    covered = sum(question.file is not None for question in questions)
    for kind, count in (("documents answer", covered), ("no document answers (file: null)", len(questions) - covered)):
        if count < FEWEST:
            raise CalibrationFailed(f"there are {count} questions that {kind}; give at least {FEWEST}")


def measure(
    retriever: Retriever, scope: Scope, knowledge: str, questions: Sequence[LabelledQuestion]
) -> Iterator[Scored]:
    """Searches for each question, as a user in this scope would. Raises UnknownKnowledge, CalibrationFailed."""
    for question in questions:
        answer = retriever.search(scope, knowledge, question.question, TOP_K, -1.0)
        if answer.best_score is None:
            raise CalibrationFailed(f"you may see no document of '{knowledge}'; ingest some, or use another key")
        found = question.file is not None and question.file in {passage.source for passage in answer.passages}
        yield Scored(question, answer.best_score, found)


def fit(scored: Sequence[Scored], precision: float, on: Circumstances) -> Calibration:
    """The lowest minimum score that reaches the precision. Raises CalibrationFailed if none does, or if it would refuse
    most of what the documents do answer: questions about a detail that a related document lacks score like others."""
    covered = [one.best_score for one in scored if one.question.file is not None]
    uncovered = [one.best_score for one in scored if one.question.file is None]
    points = list(curve(covered, uncovered))
    useful = [point for point in points if point.answered >= LEAST_ANSWERED]
    chosen = next((point for point in useful if point.precision >= precision), None)
    if chosen is None:
        best = max(useful, key=lambda point: point.precision)
        raise CalibrationFailed(
            f"no minimum score reaches a precision of {precision} and answers {LEAST_ANSWERED:.0%} of the covered "
            f"questions; at {best.min_score:.3f} the precision is {best.precision:.2f} and {best.answered:.0%} are "
            f"answered: --precision {int(best.precision * 100) / 100}"
        )
    answered = round(chosen.answered * len(covered)) + round((1 - chosen.refused) * len(uncovered))
    named = [one.found for one in scored if one.question.file]
    return Calibration(
        tenant=on.tenant,
        knowledge=on.knowledge,
        min_score=chosen.min_score,
        target_precision=precision,
        precision=wilson(chosen.precision, answered),
        answered=chosen.answered,
        refused=chosen.refused,
        found=round(sum(named) / max(1, len(named)), 4),
        auroc=auroc(covered, uncovered),
        covered=len(covered),
        uncovered=len(uncovered),
        mean_covered=round(sum(covered) / len(covered), 4),
        mean_uncovered=round(sum(uncovered) / len(uncovered), 4),
        generated=on.generated,
        questions_sha256=_digest([one.question for one in scored]),
        embedder=on.embedder,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        documents=tuple(identities(on.documents)),
        passages=sum(info.chunks for info in on.documents),
        curve=tuple(_thinned(points, chosen)),
    )


def _digest(questions: Iterable[LabelledQuestion]) -> str:
    rows = [[one.question, one.file] for one in questions]
    return hashlib.sha256(json.dumps(rows).encode()).hexdigest()


def _thinned(points: Sequence[Point], chosen: Point) -> Iterator[Point]:
    step = max(1, len(points) // _POINTS)
    for index, point in enumerate(points):
        if index % step == 0 or point == chosen or index == len(points) - 1:
            yield point
