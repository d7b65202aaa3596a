"""What was measured on a knowledge base and is kept with it (see measurements.py for where).

A measurement holds for the documents that it was made on. Each keeps their identities, so that anyone can see how many
are others by now.
"""

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from retrieval.catalogue import DocumentInfo
from retrieval.errors import UnknownKnowledge
from retrieval.measurements import open_measurements
from retrieval.store import Store

logger = logging.getLogger("breakeven.measured")

MAX_DRIFT = 0.2  # share of documents that may be others before a measurement is called outdated
DRIFT_EVERY_S = 10.0  # documents are compared at most this often: with many of them it takes a moment
_MOST_TIMES = 10_000


class Measurement(Protocol):
    """What can be kept. `documents` are the identities of those it was made on."""

    @property
    def tenant(self) -> str:
        """Whose knowledge base."""
        ...

    @property
    def knowledge(self) -> str:
        """Which of them."""
        ...

    @property
    def documents(self) -> tuple[str, ...]:
        """See `identities`."""
        ...

    def to_json(self) -> str:
        """As it is written."""
        ...


M = TypeVar("M", bound=Measurement)


@dataclass(frozen=True, slots=True)
class Kind(Generic[M]):
    """One kind of measurement. `read` raises ValueError, KeyError or TypeError for a broken file; `refuse` says why a
    stored one does not hold here; `outdated` words the warning, from knowledge base and drift; `again`: the command."""

    read: Callable[[str], M]
    refuse: Callable[[M], str | None]
    outdated: Callable[[str, float], str]
    again: str


class Kept(Generic[M]):
    """Thread-safe. Reads every stored measurement of its kind when it is made; another gateway's is in force here
    DRIFT_EVERY_S after it was made. `folder` is where they are, unless the store has a database."""

    def __init__(self, folder: Path, store: Store, kind: Kind[M]) -> None:
        self._places, self._store, self._kind = open_measurements(folder, store.database), store, kind
        self._drifts: dict[tuple[str, str], tuple[float, float | None]] = {}  # (when, drift)
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._known = {(one.tenant, one.knowledge): one for one in self._stored()}

    def current(self, tenant: str, knowledge: str) -> M | None:
        """What is in force for a knowledge base, if something was measured. Costs nothing."""
        return self._known.get((tenant, knowledge))

    def keep(self, measurement: M) -> None:
        """In force from now on, and on disk."""
        self._places.keep(measurement.tenant, measurement.knowledge, measurement.to_json())
        self._put_in_force(measurement)

    def drift(self, tenant: str, knowledge: str) -> float | None:
        """See `drift`; None without a measurement. Up to DRIFT_EVERY_S old. Logs a warning when it becomes too much."""
        key = (tenant, knowledge)
        when, found = self._drifts.get(key, (0.0, None))
        if when and time.monotonic() - when < DRIFT_EVERY_S:
            return found
        self._follow(tenant, knowledge)
        measurement = self._known.get(key)
        try:
            documents = [] if measurement is None else self._store.documents(tenant, knowledge)
            found = None if measurement is None else drift(measurement.documents, documents)
        except UnknownKnowledge:
            found = 1.0
        with self._lock:
            if len(self._drifts) > _MOST_TIMES:
                self._drifts.clear()  # names of knowledge bases come from callers
            self._drifts[key] = (time.monotonic(), found)
            if found is None:
                return None
            news = found > MAX_DRIFT and key not in self._told
            self._told = self._told | {key} if found > MAX_DRIFT else self._told - {key}
        if news:
            logger.warning("tenant %s: %s", tenant, self._kind.outdated(knowledge, found))
        return found

    def warning(self, tenant: str, knowledge: str) -> str | None:
        """What to tell whoever relies on it, once too many documents are others."""
        found = self.drift(tenant, knowledge)
        return self._kind.outdated(knowledge, found) if found is not None and found > MAX_DRIFT else None

    def _put_in_force(self, measurement: M) -> None:
        key = (measurement.tenant, measurement.knowledge)
        with self._lock:
            self._known = {**self._known, key: measurement}
            self._drifts.pop(key, None)

    def _follow(self, tenant: str, knowledge: str) -> None:
        """Another gateway may have measured."""
        text = self._places.changed(tenant, knowledge)
        found = None if text is None else self._read(f"what was measured on {tenant}'s '{knowledge}'", text)
        if found is not None and found != self._known.get((tenant, knowledge)):
            self._put_in_force(found)

    def _stored(self) -> Iterator[M]:
        for place, text in self._places.all():
            found = self._read(place, text)
            if found is not None:
                yield found

    def _read(self, place: str, text: str | None) -> M | None:
        try:
            measurement = self._kind.read(text or "")
            why_not = self._kind.refuse(measurement)
        except (ValueError, KeyError, TypeError) as error:
            why_not = f"it cannot be read ({error})"
        else:
            if why_not is None:
                return measurement
        logger.warning("%s is not used: %s; run `%s` again", place, why_not, self._kind.again)
        return None


def identities(documents: Iterable[DocumentInfo]) -> list[str]:
    """A short hash of each document's source and content, sorted."""
    return sorted(hashlib.sha256(f"{one.source}\0{one.sha256}".encode()).hexdigest()[:16] for one in documents)


def drift(measured_on: Iterable[str], documents: Iterable[DocumentInfo]) -> float:
    """Share of documents that are others than those of `measured_on` (identities): changed, added or removed."""
    then, now = set(measured_on), set(identities(documents))
    return 1 - len(then & now) / max(len(then), len(now), 1)
