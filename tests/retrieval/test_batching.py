"""Concurrent questions share calls of the model, and each gets its own vector."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from retrieval.batching import BatchingEmbedder
from retrieval.embedder import BATCH
from retrieval.errors import TextTooLong
from retrieval.hashing import HashingEmbedder

PLAIN = HashingEmbedder()


class Gated(HashingEmbedder):
    """Its first call lasts until `go`; keeps the size of every call."""

    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.calls: list[int] = []
        self.running, self.go = threading.Event(), threading.Event()
        self._fails = fails

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.calls.append(len(texts))
        if len(self.calls) == 1:
            self.running.set()
            assert self.go.wait(10)
        elif self._fails:
            raise MemoryError("no room")
        return PLAIN.encode(texts)


def ask_together(inner: Gated, texts: list[str]) -> list[NDArray[np.float32]]:
    """The first text occupies the model until all others wait."""
    embedder = BatchingEmbedder(inner)
    with ThreadPoolExecutor(len(texts)) as pool:
        first = pool.submit(embedder.encode, texts[:1])
        assert inner.running.wait(10)
        rest = [pool.submit(embedder.encode, [text]) for text in texts[1:]]
        deadline = time.monotonic() + 10
        while embedder.waiting < len(rest) and time.monotonic() < deadline:
            time.sleep(0.005)
        inner.go.set()
        return [future.result(timeout=20)[0] for future in [first, *rest]]


def test_questions_that_wait_together_are_encoded_in_one_call() -> None:
    texts = [f"question number {n}" for n in range(10)]
    inner = Gated()
    found = ask_together(inner, texts)
    assert inner.calls == [1, 9]
    np.testing.assert_allclose(np.array(found), PLAIN.encode(texts))


def test_a_call_has_a_limit() -> None:
    texts = [f"question number {n}" for n in range(BATCH + 6)]
    inner = Gated()
    found = ask_together(inner, texts)
    assert inner.calls == [1, BATCH, 5]
    np.testing.assert_allclose(np.array(found), PLAIN.encode(texts))


def test_who_has_his_vectors_does_not_wait_for_the_next_call() -> None:
    """Sixteen callers at a model that takes as long for many as for one: about eight share each call."""

    class Slow(HashingEmbedder):
        calls = 0

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            Slow.calls += 1
            time.sleep(0.01)
            return PLAIN.encode(texts)

    embedder = BatchingEmbedder(Slow())
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: embedder.encode([f"question {n}"])[0], range(320)))
    np.testing.assert_allclose(np.array(found), PLAIN.encode([f"question {n}" for n in range(320)]))
    assert Slow.calls <= 320 / 4


def test_a_failing_call_fails_all_that_shared_it_and_nobody_hangs() -> None:
    with pytest.raises(MemoryError, match="no room"):
        ask_together(Gated(fails=True), ["a", "b", "c", "d"])


def test_a_text_too_long_fails_its_caller_alone() -> None:
    inner = HashingEmbedder()
    embedder = BatchingEmbedder(inner)
    with pytest.raises(TextTooLong):
        embedder.encode(["word " * 1000])
    assert embedder.encode(["a", "b"]).shape == (2, inner.dimensions)
