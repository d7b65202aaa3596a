"""Runs calibrations, keeps their results in force, and notices when one is outdated."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.calibration import Calibration, Circumstances, check_enough, fit, measure
from retrieval.embedder import Embedder
from retrieval.errors import CalibrationFailed
from retrieval.generated import covered_questions, uncovered_questions
from retrieval.kept import Kept, Kind
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.questions import LabelledQuestion
from retrieval.store import Store


@dataclass(frozen=True, slots=True)
class Step:
    """`done` of `total` questions; the last step carries the result."""

    done: int
    total: int
    calibration: Calibration | None = None


class Calibrator:
    """Thread-safe. Reads every stored calibration when it is made; `folder` is home/calibration, where they are kept
    unless the store has a database."""

    def __init__(self, folder: Path, retriever: Retriever, store: Store, embedder: Embedder) -> None:
        self._retriever, self._store, self._embedder = retriever, store, embedder
        self._kept = Kept(folder, store, Kind(Calibration.from_json, self._refuse, _outdated, "breakeven calibrate"))

    def current(self, tenant: str, knowledge: str) -> Calibration | None:
        """What is in force for a knowledge base, if it was calibrated. Costs nothing."""
        return self._kept.current(tenant, knowledge)

    def drift(self, tenant: str, knowledge: str) -> float | None:
        """See Kept.drift."""
        return self._kept.drift(tenant, knowledge)

    def warning(self, tenant: str, knowledge: str) -> str | None:
        """See Kept.warning."""
        return self._kept.warning(tenant, knowledge)

    def run(
        self, scope: Scope, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> Iterator[Step]:
        """Searches for each question (None: made here) and puts the new minimum score in force with the last step.

        Raises UnknownKnowledge, CalibrationFailed.
        """
        if not 0 < precision <= 1:
            raise CalibrationFailed(f"the precision is {precision}; it must be above 0 and at most 1")
        generated = questions is None
        asked = self._made(scope, knowledge) if questions is None else list(questions)
        check_enough(asked)
        documents = self._store.documents(scope.tenant, knowledge)
        scored = []
        for one in measure(self._retriever, scope, knowledge, asked):
            scored.append(one)
            yield Step(len(scored), len(asked))
        on = Circumstances(scope.tenant, knowledge, self._embedder.fingerprint, documents, generated)
        calibration = fit(scored, precision, on)
        self._kept.keep(calibration)
        yield Step(len(scored), len(asked), calibration)

    def _made(self, scope: Scope, knowledge: str) -> list[LabelledQuestion]:
        covered = covered_questions(self._store, self._embedder.dimensions, scope, knowledge)
        return [*covered, *uncovered_questions()]

    def _refuse(self, calibration: Calibration) -> str | None:
        return None if calibration.embedder == self._embedder.fingerprint else "the embedder is another one"


def _outdated(knowledge: str, drift: float) -> str:
    return (
        f"{drift:.0%} of the documents in '{knowledge}' are others than when its minimum score was measured; "
        f"run `breakeven calibrate --knowledge {knowledge}` again"
    )
