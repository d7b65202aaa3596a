"""Runs calibrations and keeps their results, one JSON file per tenant and knowledge base."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from retrieval.calibration import (
    MAX_DRIFT,
    Calibration,
    Circumstances,
    LabelledQuestion,
    check_enough,
    fit,
    measure,
)
from retrieval.embedder import Embedder
from retrieval.errors import CalibrationFailed, UnknownKnowledge
from retrieval.generated import covered_questions, uncovered_questions
from retrieval.pipeline import Retriever, Scope
from retrieval.store import Store

logger = logging.getLogger("breakeven.calibration")

DRIFT_EVERY_S = 10.0  # documents are compared at most this often: with many of them it takes a moment


@dataclass(frozen=True, slots=True)
class Step:
    """`done` of `total` questions; the last step carries the result."""

    done: int
    total: int
    calibration: Calibration | None = None


class Calibrator:
    """Thread-safe. Reads every stored calibration when it is made; `folder` is home/calibration."""

    def __init__(self, folder: Path, retriever: Retriever, store: Store, embedder: Embedder) -> None:
        self._folder = folder
        self._retriever, self._store, self._embedder = retriever, store, embedder
        self._drifts: dict[tuple[str, str], tuple[float, float]] = {}  # (when, drift)
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._known = {(one.tenant, one.knowledge): one for one in self._stored()}

    def current(self, tenant: str, knowledge: str) -> Calibration | None:
        """What is in force for a knowledge base, if it was calibrated. Costs nothing."""
        return self._known.get((tenant, knowledge))

    def drift(self, tenant: str, knowledge: str) -> float | None:
        """See Calibration.drift; None without one. Up to DRIFT_EVERY_S old. Logs a warning when it becomes too much."""
        key = (tenant, knowledge)
        calibration = self._known.get(key)
        if calibration is None:
            return None
        when, drift = self._drifts.get(key, (0.0, 0.0))
        if when and time.monotonic() - when < DRIFT_EVERY_S:
            return drift
        try:
            drift = calibration.drift(self._store.documents(tenant, knowledge))
        except UnknownKnowledge:
            drift = 1.0
        with self._lock:
            self._drifts[key] = (time.monotonic(), drift)
            news = drift > MAX_DRIFT and key not in self._told
            self._told = self._told | {key} if drift > MAX_DRIFT else self._told - {key}
        if news:
            logger.warning("tenant %s: %s", tenant, outdated(knowledge, drift))
        return drift

    def run(
        self, scope: Scope, knowledge: str, questions: Sequence[LabelledQuestion] | None, precision: float
    ) -> Iterator[Step]:
        """Searches for each question (None: made here) and puts the new minimum score in force with the last step.

        Raises UnknownKnowledge, CalibrationFailed.
        """
        if not 0 < precision <= 1:
            raise CalibrationFailed(f"the precision is {precision}; it must be above 0 and at most 1")
        documents = self._store.documents(scope.tenant, knowledge)
        generated = questions is None
        asked = self._made(scope, knowledge) if questions is None else list(questions)
        check_enough(asked)
        scored = []
        for one in measure(self._retriever, scope, knowledge, asked):
            scored.append(one)
            yield Step(len(scored), len(asked))
        on = Circumstances(scope.tenant, knowledge, self._embedder.fingerprint, documents, generated)
        calibration = fit(scored, precision, on)
        self._keep(calibration)
        yield Step(len(scored), len(asked), calibration)

    def _made(self, scope: Scope, knowledge: str) -> list[LabelledQuestion]:
        covered = covered_questions(self._store, self._embedder.dimensions, scope, knowledge)
        return [*covered, *uncovered_questions()]

    def _keep(self, calibration: Calibration) -> None:
        file = self._folder / quote(calibration.tenant, safe="") / f"{quote(calibration.knowledge, safe='')}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_suffix(".tmp")
        written.write_text(calibration.to_json(), encoding="utf-8")
        written.replace(file)
        with self._lock:
            key = (calibration.tenant, calibration.knowledge)
            self._known = {**self._known, key: calibration}
            self._drifts.pop(key, None)

    def _stored(self) -> Iterator[Calibration]:
        for file in sorted(self._folder.glob("*/*.json")):
            try:
                calibration = Calibration.from_json(file.read_text(encoding="utf-8"))
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s is not used: it cannot be read (%s); run `breakeven calibrate` again", file, error)
                continue
            if calibration.embedder == self._embedder.fingerprint:
                yield calibration
            else:
                logger.warning("%s is not used: the embedder is another one; run `breakeven calibrate` again", file)


def outdated(knowledge: str, drift: float) -> str:
    """The warning's words."""
    return (
        f"{drift:.0%} of the documents in '{knowledge}' are others than when its minimum score was measured; "
        f"run `breakeven calibrate --knowledge {knowledge}` again"
    )
