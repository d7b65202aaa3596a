"""One suite over every kind of reranker, and what is no reranker."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retrieval.errors import RerankerUnusable
from retrieval.reranker import BATCH, Reranker, open_reranker
from tests.retrieval.rerankers import MARK, MarkReranker, cross_encoder_folder, onnx_folder

TEXTS = [f"w{10 + number % 50} {MARK if number % 7 == 0 else 'w20'} " * (number % 5 + 1) for number in range(BATCH + 9)]
Make = Callable[[Path], Reranker]


def made(_: Path) -> Reranker:
    return MarkReranker()


def onnx(folder: Path) -> Reranker:
    return open_reranker(str(onnx_folder(folder / "onnx")), 1)


def onnx_of_two_labels(folder: Path) -> Reranker:
    return open_reranker(str(onnx_folder(folder / "onnx", labels=2)), 1)


def cross_encoder(folder: Path) -> Reranker:
    return open_reranker(str(cross_encoder_folder(folder / "tiny")), 1)


def cross_encoder_of_two_labels(folder: Path) -> Reranker:
    return open_reranker(str(cross_encoder_folder(folder / "tiny", labels=2)), 1)


@pytest.fixture(params=[made, onnx, onnx_of_two_labels, cross_encoder, cross_encoder_of_two_labels])
def reranker(request: pytest.FixtureRequest, tmp_path: Path) -> Reranker:
    make: Make = request.param
    return make(tmp_path)


def test_every_text_has_its_own_score_whatever_stands_beside_it(reranker: Reranker) -> None:
    together = reranker.score("w11 w12", TEXTS)
    assert together.shape == (len(TEXTS),)
    assert together.dtype == np.float32
    assert len(set(together.tolist())) > 1
    alone = [float(reranker.score("w11 w12", [text])[0]) for text in TEXTS]
    assert together.tolist() == pytest.approx(alone, abs=1e-4)
    assert reranker.score("w11", []).shape == (0,)


def test_threads_get_what_one_alone_gets(reranker: Reranker) -> None:
    expected = reranker.score("w13", TEXTS).tolist()
    with ThreadPoolExecutor(4) as threads:
        for found in threads.map(lambda _: reranker.score("w13", TEXTS).tolist(), range(8)):
            assert found == pytest.approx(expected, abs=1e-4)


def test_a_long_text_is_cut_and_not_refused(reranker: Reranker) -> None:
    assert np.isfinite(reranker.score("w11", ["w12 " * 3000])).all()


def test_onnx_reads_the_text_and_two_labels_say_the_same(tmp_path: Path) -> None:
    one = open_reranker(str(onnx_folder(tmp_path / "one")), 1)
    two = open_reranker(str(onnx_folder(tmp_path / "two", labels=2)), 1)
    wrong = open_reranker(str(onnx_folder(tmp_path / "wrong", worth=-1)), 1)
    best = {int(np.argmax(each.score("w11", ["w12", f"w12 {MARK}", "w13 w14"]))) for each in (one, two)}
    assert best == {1}
    assert int(np.argmin(wrong.score("w11", ["w12", f"w12 {MARK}", "w13 w14"]))) == 1


def test_other_weights_are_another_reranker(tmp_path: Path) -> None:
    kinds = [
        open_reranker(str(folder), 1).fingerprint
        for folder in (
            onnx_folder(tmp_path / "a"),
            onnx_folder(tmp_path / "b", worth=-1),
            cross_encoder_folder(tmp_path / "c"),
            cross_encoder_folder(tmp_path / "d", seed=1),
        )
    ]
    assert len(set(kinds)) == 4
    (tmp_path / "a").rename(tmp_path / "e")
    assert open_reranker(str(tmp_path / "e"), 1).fingerprint == kinds[0]


def test_what_is_no_reranker_says_what_is_needed(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.onnx").write_bytes(b"no model")
    three = cross_encoder_folder(tmp_path / "three", labels=3)
    for folder in (tmp_path / "empty", tmp_path / "broken", tmp_path / "missing", three):
        with pytest.raises(RerankerUnusable, match="name the folder of a cross-encoder") as refused:
            open_reranker(str(folder), 1)
        assert "\n" not in str(refused.value)
