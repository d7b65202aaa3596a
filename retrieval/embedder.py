"""Text to unit vectors: the Protocol and the sentence-transformers implementation behind it.

The rest of the package knows neither torch nor a model. A text that does not fit is refused, never cut: a passage
that was silently cut at its 256th token is found by its beginning only, and nobody can tell.
"""

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.errors import TextTooLong
from retrieval.model_folder import embedder_name, folder_fingerprint

BATCH = 16  # texts; they are sorted by length first, so that little is spent on padding


class Embedder(Protocol):
    """What retrieval needs of an embedding model. Implementations are thread-safe."""

    @property
    def name(self) -> str:
        """What clients know the model by."""
        ...

    @property
    def dimensions(self) -> int:
        """Of every vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """The longest text, in tokens with the special ones."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same text would get another vector; two with the same one are interchangeable."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Without truncation and padding; shared, so nobody may change it."""
        ...

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Of each text, with the special tokens, as max_tokens means them."""
        ...

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts), dimensions), each row of length 1. Raises TextTooLong."""
        ...


class SentenceTransformerEmbedder:
    """A sentence-transformers model folder.

    `device` is torch's name for it; None takes a GPU if there is one. `threads` sets torch's thread count for the whole
    process. Computes in bfloat16 where the hardware has instructions for it, else in float32: what that costs in
    quality and brings in speed is what benchmarks.embedding_speed measures. The fingerprint is the same for both,
    so that an index can move to another machine.
    """

    def __init__(self, path: Path, *, device: str | None = None, threads: int | None = None) -> None:
        import torch
        from sentence_transformers import SentenceTransformer
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # type: ignore[no-untyped-call]  # upstream has no types; the gateway shows its own

        if threads is not None:
            torch.set_num_threads(threads)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        cpu = torch.cpu.get_capabilities()
        half = self.device != "cpu" or cpu.get("avx512_bf16") or cpu.get("amx_bf16") or cpu.get("bf16")
        self.dtype = "bfloat16" if half else "float32"
        self._model = SentenceTransformer(
            str(path), device=self.device, local_files_only=True, model_kwargs={"dtype": getattr(torch, self.dtype)}
        )
        self._model.eval()
        self._lock = threading.Lock()  # two batches at a time would only share the cores
        self._padding = int(self._model.tokenizer.pad_token_id or 0)
        self._prompt = self._model.prompts.get(self._model.default_prompt_name or "", "")
        self.tokenizer: Tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.name = embedder_name(path)
        self.dimensions = int(self._model.get_embedding_dimension() or 0)
        self.max_tokens = int(self._model.max_seq_length or 0)
        self.fingerprint = folder_fingerprint(path, f"normalized {self.max_tokens}")

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """See Embedder."""
        return [len(encoding.ids) for encoding in self.tokenizer.encode_batch(list(texts))]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Embedder. The model runs one batch at a time; the others wait.

        Tokens go to the model as our tokenizer made them: sentence-transformers' own `encode` cuts texts a second time
        and looks at each batch in Python, which for one question costs as much as half the model.
        """
        found = self.tokenizer.encode_batch([f"{self._prompt}{text}" for text in texts])
        refuse_long([len(each.ids) for each in found], self.max_tokens)
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(found[index].ids))
        for at in range(0, len(order), BATCH):
            batch = order[at : at + BATCH]
            vectors[batch] = self._forward([found[index].ids for index in batch])
        unit: NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)  # bfloat16 is off by .004
        return unit

    def _forward(self, ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        import torch

        longest = max(map(len, ids))
        tokens = torch.tensor([[*row, *[self._padding] * (longest - len(row))] for row in ids])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in ids])
        features = {"input_ids": tokens.to(self.device), "attention_mask": mask.to(self.device)}
        with self._lock, torch.inference_mode():
            found = self._model(features)["sentence_embedding"]
        return np.asarray(found.float().cpu().numpy(), dtype=np.float32)


def refuse_long(counts: Sequence[int], limit: int) -> None:
    """Raises TextTooLong for the first count above the limit."""
    for index, tokens in enumerate(counts):
        if tokens > limit:
            raise TextTooLong(index, tokens, limit)
