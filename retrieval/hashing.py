"""An embedder without a model: a bag of hashed words. It shares words, not meaning.

A peer of the real one behind the same Protocol, for tests and for trying the gateway in seconds.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace

from retrieval.embedder import refuse_long


class HashingEmbedder:
    """Deterministic on every machine: each word (lower case) adds one to a signed place that its hash chooses."""

    name = "hashing"

    def __init__(self, dimensions: int = 256, max_tokens: int = 64) -> None:
        self.dimensions = dimensions
        self.max_tokens = max_tokens
        self.fingerprint = hashlib.sha256(f"hashing {dimensions} {max_tokens}".encode()).hexdigest()
        self.tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))  # noqa: S106  # a token, no password
        self.tokenizer.normalizer = Lowercase()
        self.tokenizer.pre_tokenizer = Whitespace()

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Embedder."""
        return [len(encoding.ids) for encoding in self.tokenizer.encode_batch(list(texts))]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder."""
        refuse_long(self.count_tokens(texts), self.max_tokens)
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for start, end in self.tokenizer.encode(text).offsets:
                word = hashlib.blake2b(text[start:end].lower().encode(), digest_size=8).digest()
                row[int.from_bytes(word[:4]) % self.dimensions] += 1.0 if word[4] & 1 else -1.0
            if not row.any():  # no words, or words that cancel out: any fixed direction will do
                row[0] = 1.0
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit
