"""Exact similarity of every passage of a few documents: what a search needs when its caller may find little.

An index that must be asked for ten thousand passages to find a hundred allowed ones is slower than scoring those, and
less sure. Vectors of a version never change, so the last ones read are kept: a user comes back with the same groups.
"""

import threading
from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

_BYTES = 64 * 2**20
_READ = 5000  # passages at once


class Embeddings(Protocol):
    """Where vectors are read from."""

    def embeddings(self, ids: list[str]) -> tuple[list[str], NDArray[np.float32]]:
        """(ids, their embeddings (n, dimensions)) of those that exist."""
        ...


class ExactScores:
    """Of one knowledge base. Thread-safe. Keeps at most `budget` bytes of vectors, the newest read."""

    def __init__(self, vectors: Embeddings, budget: int = _BYTES) -> None:
        self._vectors, self._budget = vectors, budget
        self._lock = threading.Lock()
        self._kept: dict[str, NDArray[np.float32]] = {}
        self._bytes = 0

    def nearest(self, versions: Mapping[str, int], embedding: NDArray[np.float32], limit: int) -> dict[str, float]:
        """Cosine similarity by id of the `limit` passages nearest to `embedding`, best first, among these versions
        (with their numbers of passages)."""
        found = self._of(versions)
        if not found:
            return {}
        names = list(found)
        ends = np.cumsum([len(found[name]) for name in names])
        scores = np.concatenate([found[name] @ embedding for name in names]) / np.linalg.norm(embedding)
        best = np.argsort(-scores, kind="stable")[:limit]
        of = np.searchsorted(ends, best, side="right")
        return {
            f"{names[at]}-{place - ends[at] + len(found[names[at]])}": float(np.clip(scores[place], -1.0, 1.0))
            for place, at in zip(best, of, strict=True)
        }

    def _of(self, versions: Mapping[str, int]) -> dict[str, NDArray[np.float32]]:
        """Unit vectors by version, in the order of their passages; a version that is not whole is left out."""
        with self._lock:
            found = {version: self._kept[version] for version in versions if version in self._kept}
        missing = {version: size for version, size in versions.items() if version not in found}
        if missing:
            read = self._read(missing)
            found |= read
            self._keep(read)
        return found

    def _read(self, versions: Mapping[str, int]) -> dict[str, NDArray[np.float32]]:
        ids = [f"{version}-{index}" for version, size in versions.items() for index in range(size)]
        rows: dict[str, NDArray[np.float32]] = {}
        for at in range(0, len(ids), _READ):
            names, matrix = self._vectors.embeddings(ids[at : at + _READ])
            if names:  # erased by another thread otherwise
                rows |= zip(names, matrix / np.linalg.norm(matrix, axis=1, keepdims=True), strict=True)
        whole = {}
        for version, size in versions.items():
            mine = [rows.get(f"{version}-{index}") for index in range(size)]
            if all(row is not None for row in mine):
                whole[version] = np.stack([row for row in mine if row is not None])
        return whole

    def _keep(self, read: Mapping[str, NDArray[np.float32]]) -> None:
        with self._lock:
            for version, matrix in read.items():
                if version not in self._kept:
                    self._kept[version] = matrix
                    self._bytes += matrix.nbytes
            while self._bytes > self._budget:
                self._bytes -= self._kept.pop(next(iter(self._kept))).nbytes
