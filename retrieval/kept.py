"""What was measured on a knowledge base and is kept with it: one JSON file per tenant and knowledge base.

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
from urllib.parse import quote

from retrieval.catalogue import DocumentInfo
from retrieval.errors import UnknownKnowledge
from retrieval.store import Store

logger = logging.getLogger("breakeven.measured")

MAX_DRIFT = 0.2  # share of documents that may be others before a measurement is called outdated
DRIFT_EVERY_S = 10.0  # documents are compared at most this often: with many of them it takes a moment


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
    """Thread-safe. Reads every stored measurement of its kind when it is made."""

    def __init__(self, folder: Path, store: Store, kind: Kind[M]) -> None:
        self._folder, self._store, self._kind = folder, store, kind
        self._drifts: dict[tuple[str, str], tuple[float, float]] = {}  # (when, drift)
        self._told: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self._known = {(one.tenant, one.knowledge): one for one in self._stored()}

    def current(self, tenant: str, knowledge: str) -> M | None:
        """What is in force for a knowledge base, if something was measured. Costs nothing."""
        return self._known.get((tenant, knowledge))

    def keep(self, measurement: M) -> None:
        """In force from now on, and on disk."""
        file = self._folder / quote(measurement.tenant, safe="") / f"{quote(measurement.knowledge, safe='')}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        written = file.with_suffix(".tmp")
        written.write_text(measurement.to_json(), encoding="utf-8")
        written.replace(file)
        with self._lock:
            key = (measurement.tenant, measurement.knowledge)
            self._known = {**self._known, key: measurement}
            self._drifts.pop(key, None)

    def drift(self, tenant: str, knowledge: str) -> float | None:
        """See `drift`; None without a measurement. Up to DRIFT_EVERY_S old. Logs a warning when it becomes too much."""
        key = (tenant, knowledge)
        measurement = self._known.get(key)
        if measurement is None:
            return None
        when, found = self._drifts.get(key, (0.0, 0.0))
        if when and time.monotonic() - when < DRIFT_EVERY_S:
            return found
        try:
            found = drift(measurement.documents, self._store.documents(tenant, knowledge))
        except UnknownKnowledge:
            found = 1.0
        with self._lock:
            self._drifts[key] = (time.monotonic(), found)
            news = found > MAX_DRIFT and key not in self._told
            self._told = self._told | {key} if found > MAX_DRIFT else self._told - {key}
        if news:
            logger.warning("tenant %s: %s", tenant, self._kind.outdated(knowledge, found))
        return found

    def _stored(self) -> Iterator[M]:
        for file in sorted(self._folder.glob("*/*.json")):
            try:
                measurement = self._kind.read(file.read_text(encoding="utf-8"))
                why_not = self._kind.refuse(measurement)
            except (OSError, ValueError, KeyError, TypeError) as error:
                why_not = f"it cannot be read ({error})"
            else:
                if why_not is None:
                    yield measurement
                    continue
            logger.warning("%s is not used: %s; run `%s` again", file, why_not, self._kind.again)


def identities(documents: Iterable[DocumentInfo]) -> list[str]:
    """A short hash of each document's source and content, sorted."""
    return sorted(hashlib.sha256(f"{one.source}\0{one.sha256}".encode()).hexdigest()[:16] for one in documents)


def drift(measured_on: Iterable[str], documents: Iterable[DocumentInfo]) -> float:
    """Share of documents that are others than those of `measured_on` (identities): changed, added or removed."""
    then, now = set(measured_on), set(identities(documents))
    return 1 - len(then & now) / max(len(then), len(now), 1)
