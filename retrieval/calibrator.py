"""Runs calibrations, keeps their results in force, and notices when one is outdated."""

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from retrieval.calibration import (
    MAX_DRIFT,
    Calibration,
    Circumstances,
    LabelledQuestion,
    check_enough,
    fit,
    measure,
)
from retrieval.calibrations import CalibrationFiles, Calibrations, CalibrationTable
from retrieval.embedder import Embedder
from retrieval.errors import CalibrationFailed, UnknownKnowledge
from retrieval.generated import covered_questions, uncovered_questions
from retrieval.pipeline import Retriever, Scope
from retrieval.store import Store

logger = logging.getLogger("breakeven.calibration")

_MOST_TIMES = 10_000
DRIFT_EVERY_S = 10.0  # documents are compared at most this often: with many of them it takes a moment


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
        self._kept: Calibrations = (
            CalibrationFiles(folder) if store.database is None else CalibrationTable(store.database)
        )
        self._retriever, self._store, self._embedder = retriever, store, embedder
        self._drifts: dict[tuple[str, str], tuple[float, float | None]] = {}  # (when, drift)
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._known = {(one.tenant, one.knowledge): one for one in self._stored()}

    def current(self, tenant: str, knowledge: str) -> Calibration | None:
        """What is in force for a knowledge base, if it was calibrated. Costs nothing."""
        return self._known.get((tenant, knowledge))

    def drift(self, tenant: str, knowledge: str) -> float | None:
        """See Calibration.drift; None without one. Up to DRIFT_EVERY_S old. Logs a warning when it becomes too much."""
        key = (tenant, knowledge)
        when, drift = self._drifts.get(key, (0.0, None))
        if when and time.monotonic() - when < DRIFT_EVERY_S:
            return drift
        self._follow(key)
        calibration = self._known.get(key)
        try:
            drift = None if calibration is None else calibration.drift(self._store.documents(tenant, knowledge))
        except UnknownKnowledge:
            drift = 1.0
        with self._lock:
            if len(self._drifts) > _MOST_TIMES:
                self._drifts.clear()  # names of knowledge bases come from callers
            self._drifts[key] = (time.monotonic(), drift)
            if drift is None:
                return None
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
        self._kept.keep(calibration)
        self._put_in_force(calibration)
        with self._lock:
            self._drifts.pop((calibration.tenant, calibration.knowledge), None)

    def _put_in_force(self, calibration: Calibration) -> None:
        with self._lock:
            self._known = {**self._known, (calibration.tenant, calibration.knowledge): calibration}

    def _follow(self, key: tuple[str, str]) -> None:
        """Another gateway may have calibrated."""
        text = self._kept.changed(*key)
        found = None if text is None else self._read(f"the calibration of {key[0]}'s '{key[1]}'", text)
        if found is not None and found != self._known.get(key):
            self._put_in_force(found)

    def _stored(self) -> Iterator[Calibration]:
        for place, text in self._kept.all():
            found = self._read(place, text)
            if found is not None:
                yield found

    def _read(self, place: str, text: str | None) -> Calibration | None:
        try:
            calibration = Calibration.from_json(text or "")
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s is not used: it cannot be read (%s); run `breakeven calibrate` again", place, error)
            return None
        if calibration.embedder != self._embedder.fingerprint:
            logger.warning("%s is not used: the embedder is another one; run `breakeven calibrate` again", place)
            return None
        return calibration


def outdated(knowledge: str, drift: float) -> str:
    """The warning's words."""
    return (
        f"{drift:.0%} of the documents in '{knowledge}' are others than when its minimum score was measured; "
        f"run `breakeven calibrate --knowledge {knowledge}` again"
    )
