"""One contract, all embedders. What only the real model can show comes last."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from retrieval.batching import BatchingEmbedder
from retrieval.embedder import Embedder, SentenceTransformerEmbedder
from retrieval.errors import TextTooLong
from retrieval.hashing import HashingEmbedder
from retrieval.model_folder import packaged_minilm


@pytest.fixture(params=["hashing", "minilm", "batching"])
def embedder(request: pytest.FixtureRequest, hashing: HashingEmbedder) -> Embedder:
    if request.param == "batching":
        return BatchingEmbedder(hashing)
    found: Embedder = request.getfixturevalue(request.param)
    return found


def test_shape_type_and_length(embedder: Embedder) -> None:
    vectors = embedder.encode(["Leave is 28 days.", "", "日本語 🎉", "a b a b"])
    assert vectors.shape == (4, embedder.dimensions)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_nothing_in_nothing_out(embedder: Embedder) -> None:
    assert embedder.encode([]).shape == (0, embedder.dimensions)


def test_deterministic_whatever_the_batch(embedder: Embedder) -> None:
    texts = [f"text number {n} " * (1 + n % 5) for n in range(40)]
    together = embedder.encode(texts)
    np.testing.assert_allclose(together, embedder.encode(texts), atol=1e-6)
    assert together[7] @ embedder.encode([texts[7]])[0] > 0.9995  # bfloat16 rounds padded texts in another way


def test_the_same_words_are_nearer_than_others(embedder: Embedder) -> None:
    leave, question, other = embedder.encode(["annual leave days", "how many leave days", "the rain gauge is red"])
    assert leave @ question > leave @ other


def test_counts_tokens_as_the_limit_means_them(embedder: Embedder) -> None:
    room = embedder.max_tokens - embedder.tokenizer.num_special_tokens_to_add(False)
    assert embedder.count_tokens(["rain " * room]) == [embedder.max_tokens]
    assert embedder.encode(["rain " * room]).shape == (1, embedder.dimensions)


def test_a_text_over_the_limit_is_refused_not_cut(embedder: Embedder) -> None:
    with pytest.raises(TextTooLong, match="split it") as caught:
        embedder.encode(["short", "rain " * embedder.max_tokens * 2])
    assert (caught.value.index, caught.value.limit) == (1, embedder.max_tokens)
    assert caught.value.tokens > embedder.max_tokens


def test_threads_do_not_disturb_each_other(embedder: Embedder) -> None:
    texts = [f"sentence {n} " * (1 + n) for n in range(8)]
    expected = embedder.encode(texts)
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda text: embedder.encode([text])[0], texts * 2))
    # A cosine, since bfloat16 rounds a text alone and a padded one in another way; another text's is below .99.
    assert (np.array(got) * np.concatenate([expected, expected])).sum(axis=1).min() > 0.9995


def test_minilm_knows_meaning(minilm: SentenceTransformerEmbedder) -> None:
    assert (minilm.name, minilm.dimensions, minilm.max_tokens) == ("all-MiniLM-L6-v2", 384, 256)
    vacation, holiday, gauge = minilm.encode(["vacation", "holiday", "rain gauge"])
    assert vacation @ holiday > vacation @ gauge + 0.3


def test_fingerprint_is_the_folders_content(minilm: SentenceTransformerEmbedder, tmp_path: Path) -> None:
    def variant(name: str, change: Callable[[Path], object]) -> str:
        folder = tmp_path / name
        shutil.copytree(packaged_minilm(), folder)
        change(folder)
        return SentenceTransformerEmbedder(folder).fingerprint

    assert variant("copy", lambda folder: (folder / "README.md").write_text("other words")) == minilm.fingerprint
    settings = '{"max_seq_length": 128, "do_lower_case": false}'
    assert variant("cut", lambda f: (f / "sentence_bert_config.json").write_text(settings)) != minilm.fingerprint


def test_hashing_fingerprint_tells_settings_apart() -> None:
    assert HashingEmbedder().fingerprint == HashingEmbedder().fingerprint != HashingEmbedder(128).fingerprint
