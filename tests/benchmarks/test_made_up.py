"""Stores that are kept for timing: gone on with, found again, and never mistaken for others."""

from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.errors import BenchmarkError
from benchmarks.made_up import KNOWLEDGE, PER_DOCUMENT, TENANT, MadeUp, build, open_store
from retrieval.store import EVERYONE


def test_an_interrupted_filling_is_gone_on_with(tmp_path: Path) -> None:
    made_up = MadeUp(8)
    store = open_store(tmp_path, 8)
    store.replace_documents(TENANT, KNOWLEDGE, [made_up.document(0)])
    store.close()
    built = build(tmp_path, 3 * PER_DOCUMENT, 8, Console(quiet=True))
    assert built.complete and built.passages == 3 * PER_DOCUMENT
    store = open_store(tmp_path, 8)
    try:
        assert [info.source for info in store.documents(TENANT, KNOWLEDGE)] == ["d0.txt", "d1.txt", "d2.txt"]
        [found] = store.query(TENANT, KNOWLEDGE, made_up.vectors(2)[7], 1, EVERYONE)
        assert (found.source, found.start) == ("d2.txt", 7)
        assert [chunk.text for chunk in MadeUp(8).document(2).chunks][7] == found.text
    finally:
        store.close()
    assert build(tmp_path, 3 * PER_DOCUMENT, 8, Console(quiet=True)) == built


def test_a_store_of_another_size_is_refused(tmp_path: Path) -> None:
    build(tmp_path, PER_DOCUMENT, 8, Console(quiet=True))
    with pytest.raises(BenchmarkError, match="name another folder"):
        build(tmp_path, 2 * PER_DOCUMENT, 8, Console(quiet=True))
