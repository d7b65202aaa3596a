"""What a caller finds is exactly what a filter inside both indexes would leave: nothing foreign, nothing missing."""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.catalogue import Catalogue, DocumentInfo, Entry
from retrieval.exact import ExactScores
from retrieval.filters import Scalar, Where, matches
from retrieval.lexical import TantivyIndex
from retrieval.search import Base, Mode, Question, candidates

GROUPS = ("everyone", "hr", "it", "board")
ODD: Where = {"attr:odd": {"$eq": True}}
SOME: Where = {"$and": [{"attr:odd": {"$ne": True}}, {"source": {"$in": ["d0", "d2", "d3", "d4", "d100", "gone"]}}]}


class ExactVectors:
    """See Vectors: in memory, and without the approximations of a graph."""

    def __init__(self) -> None:
        self._rows: dict[str, tuple[NDArray[np.float32], str, Mapping[str, Any]]] = {}

    def nearest(self, embedding: NDArray[np.float32], limit: int) -> dict[str, float]:
        scores = {id: float(row @ embedding) for id, (row, _, _) in self._rows.items()}
        return dict(sorted(scores.items(), key=lambda one: -one[1])[:limit])

    def embeddings(self, ids: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
        found = [id for id in ids if id in self._rows]
        return found, np.array([self._rows[id][0] for id in found], dtype=np.float32)

    def matching(self, where: Where | None) -> set[str]:
        return {id for id, (_, _, row) in self._rows.items() if where is None or matches(where, row)}

    def count(self) -> int:
        return len(self._rows)

    def metadata(self, where: Where) -> list[Mapping[str, Any]]:
        return [row for _, _, row in self._rows.values() if matches(where, row)]

    def rows(self, ids: Sequence[str]) -> dict[str, tuple[str, Mapping[str, Any]]]:
        return {id: self._rows[id][1:] for id in ids if id in self._rows}

    def write(
        self,
        ids: Sequence[str],
        embeddings: NDArray[np.float32],
        texts: Sequence[str],
        metadata: Sequence[Mapping[str, Scalar]],
    ) -> None:
        for id, *row in zip(ids, embeddings, texts, metadata, strict=True):
            self._rows[id] = (row[0], row[1], row[2])

    def delete(self, ids: Sequence[str]) -> None:
        for id in ids:
            self._rows.pop(id, None)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """150 documents of two passages; the board sees one of them, and every tenth has an old version not yet erased."""
    chance = random.Random(0)
    vectors = ExactVectors()
    lexical = TantivyIndex(Path(tmp_path_factory.mktemp("index")))
    made = Base("kb", vectors, Catalogue(), lexical, ExactScores(vectors))
    for number in range(150):
        groups = frozenset({"board"}) if number == 77 else frozenset({chance.choice(GROUPS[:3])})
        for old in [True, False] if number % 10 == 0 else [False]:
            version = made.catalogue.begin(f"d{number}")
            ids = [f"{version}-{index}" for index in range(2)]
            texts = [" ".join(chance.choice(["pump", "gauge", "leave", "salt", "iron"]) for _ in range(6)) for _ in ids]
            rows = np.random.default_rng(number).normal(size=(2, 8)).astype(np.float32)
            rows /= np.linalg.norm(rows, axis=1, keepdims=True)
            row: Mapping[str, Scalar] = {
                "attr:odd": number % 2 == 1,
                "source": f"d{number}",
                "old": old,
                **dict.fromkeys(groups, True),
            }
            made.vectors.write(ids, rows, texts, [{**row, **dict.fromkeys(groups, True)}] * 2)
            made.lexical.add(dict(zip(ids, texts, strict=True)), version)
            info = DocumentInfo(f"d{number}", "T", "0", 2, groups)
            made.catalogue.switch(Entry(info, str(old), version, {"attr:odd": number % 2 == 1}))
    return made


@pytest.mark.parametrize("filter", [None, ODD, SOME])
@pytest.mark.parametrize("depth", [1, 7, 60, 1000])
@pytest.mark.parametrize("groups", [{"everyone"}, {"hr", "it"}, {"board"}, {"nobody"}, set(), set(GROUPS)])
def test_both_indexes_give_what_a_filter_would_leave(
    base: Base, groups: set[str], depth: int, filter: Where | None
) -> None:
    embedding = np.random.default_rng(999).normal(size=8).astype(np.float32)
    embedding /= np.linalg.norm(embedding)
    rows = base.vectors.rows(sorted(base.vectors.matching(filter)))
    may = {id for id, (_, row) in rows.items() if not row["old"] and any(row.get(group) for group in groups)}

    def ask(mode: Mode) -> list[str]:
        return candidates(base, Question("pump gauge", embedding, frozenset(groups), filter, mode, depth)).ranked

    nearest = [id for id in base.vectors.nearest(embedding, 10_000) if id in may]
    assert ask("dense") == nearest[:depth]
    scores = base.lexical.search("pump gauge", 10_000)
    by_words = sorted((scores[id] for id in may if id in scores), reverse=True)
    assert [scores[id] for id in ask("lexical")] == pytest.approx(by_words[:depth], rel=1e-6)
    both = ask("hybrid")
    assert set(nearest[:depth]) <= set(both) <= may


def test_the_best_score_is_of_what_the_caller_may_see(base: Base) -> None:
    embedding = np.random.default_rng(0).normal(size=(2, 8)).astype(np.float32)[0]
    embedding /= np.linalg.norm(embedding)  # of document 0
    seen = {
        group: candidates(base, Question("", embedding, frozenset({group}))).best_score for group in (*GROUPS, "nobody")
    }
    [owner] = base.catalogue.entries["d0"].info.groups
    assert seen[owner] == pytest.approx(1.0, abs=1e-5)
    assert all((score or 0) < 0.99 for group, score in seen.items() if group != owner)
    assert seen["nobody"] is None
