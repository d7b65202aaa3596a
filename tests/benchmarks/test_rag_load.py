"""The measurement of retrieval under load, on embedders and rows that are known."""

import threading
import time
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.errors import EndpointError
from benchmarks.load.counted import Counted
from benchmarks.load.record import LoadResult, RequestRow
from benchmarks.rag_load import _share, batching
from retrieval.hashing import HashingEmbedder
from tests.benchmarks.load.test_summary import header, row


class SlowEmbedder(HashingEmbedder):
    """Five milliseconds a call, whatever is in it, and one call at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._one = threading.Lock()

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        with self._one:
            time.sleep(0.005)
            return super().encode(texts)


def test_batching_compares_both_ways() -> None:
    found = batching(SlowEmbedder(), [f"question {number}" for number in range(160)], threads=16)
    assert found.one_by_one_per_s < 200
    assert found.times_faster == pytest.approx(found.batched_per_s / found.one_by_one_per_s, rel=0.02)
    assert found.times_faster > 2


def test_the_engines_own_time_is_not_the_gateways() -> None:
    name = "breakeven_retrieval_duration_seconds"
    after = {f'{name}_{kind}{{stage="{stage}"}}': value for stage, kind, value in (
        ("embed", "sum", 0.02), ("embed", "count", 2.0), ("search", "sum", 0.01), ("search", "count", 2.0)
    )}  # fmt: skip
    rows: tuple[RequestRow, ...] = (
        row(0, sent_s=1.0, chunks_s=(1.51,), last_s=1.6),
        row(1, sent_s=1.0, chunks_s=(1.53,), last_s=2.0),
        row(2, sent_s=1.0, chunks_s=(1.9,), last_s=2.0, outcome="abstained"),
    )
    found = _share(LoadResult(header(), rows, (Counted("page", {}, after),)), 0.5)
    assert (found.requests, found.requests_per_s) == (2, 1.5)
    assert (found.p50_ms, found.embed_mean_ms, found.search_mean_ms) == pytest.approx((20, 10, 5))
    with pytest.raises(EndpointError, match="no evidence"):
        _share(LoadResult(header(), rows, (), ("a gap",)), 0.5)
