"""Reads question and passage together with a cross-encoder: the Protocol, and two kinds of models behind it.

Slower than comparing vectors and often better, but not always: a weak model puts worse passages first. So nothing here
decides whether one is used; see reranking.py.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from retrieval.errors import RerankerUnusable
from retrieval.lexical import lexical_text
from retrieval.model_folder import folder_fingerprint
from retrieval.passages import Passage

BATCH = 16
ONNX = "model.onnx"
_LONGEST = 512  # tokens of question and passage together, if the tokenizer does not say; what is over is cut
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids"})
_FILES = frozenset({".safetensors", ".bin", ".onnx", ".json", ".txt", ".model"})
_FETCHED = ("*.json", "*.txt", "*.model", "*.safetensors")  # of a hub repository: its top folder, no other formats


class Reranker(Protocol):
    """What retrieval needs of a cross-encoder. Implementations are thread-safe."""

    @property
    def name(self) -> str:
        """What people know the model by."""
        ...

    @property
    def fingerprint(self) -> str:
        """Changes whenever the same pair would get another score."""
        ...

    def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """(len(texts),), higher is better; comparable for one question only."""
        ...


@dataclass(frozen=True, slots=True)
class Rerank:
    """`depth`: how many passages are put in a new order, from the first."""

    reranker: Reranker
    depth: int

    def of(self, question: str) -> "Reordering":
        """For one question."""
        return Reordering(self, question)


@dataclass(slots=True)
class Reordering:
    """One question's. Remembers scores, so that a search which is repeated because a document changed meanwhile does
    not pay twice. `seconds` is what scoring took."""

    wish: Rerank
    question: str
    seconds: float = 0.0
    _scores: dict[str, float] = field(default_factory=dict)

    def order(self, ranked: Sequence[str], fetch: Callable[[Sequence[str]], list[Passage]]) -> list[str]:
        """The ids in their new order; of the first, those that are gone meanwhile are left out."""
        started = time.perf_counter()
        first = ranked[: self.wish.depth]
        new = fetch([id for id in first if id not in self._scores])
        texts = [lexical_text(passage.title, passage.heading, passage.text) for passage in new]
        scores = self.wish.reranker.score(self.question, texts)
        self._scores |= {passage.id: float(score) for passage, score in zip(new, scores, strict=True)}
        known = [id for id in first if id in self._scores]
        self.seconds += time.perf_counter() - started
        return [*sorted(known, key=lambda id: -self._scores[id]), *ranked[self.wish.depth :]]


def open_reranker(model: str, threads: int | None) -> Reranker:
    """From a folder, or from the hub by its id. A folder with model.onnx is run by ONNX Runtime, any other is loaded
    by sentence-transformers. Raises RerankerUnusable."""
    folder = Path(model)
    try:
        if not folder.is_dir():
            from huggingface_hub import snapshot_download

            folder = Path(snapshot_download(model, allow_patterns=list(_FETCHED)))
        name = model if model.count("/") == 1 and not Path(model).is_dir() else folder.name
        return OnnxReranker(folder, name, threads) if (folder / ONNX).is_file() else CrossEncoderReranker(folder, name)
    except RerankerUnusable:
        raise
    except Exception as error:  # the libraries raise whatever a broken file makes them stumble over
        reason = " ".join(str(error).split())[:200]
        raise RerankerUnusable(model, f"{error.__class__.__name__}: {reason}") from None


class CrossEncoderReranker:
    """A sentence-transformers CrossEncoder folder, on the CPU (the GPU belongs to the engine)."""

    def __init__(self, path: Path, name: str) -> None:
        from sentence_transformers import CrossEncoder
        from torch.nn import Identity

        self._model = CrossEncoder(str(path), device="cpu", local_files_only=True)
        self._plain = Identity()  # an order needs no sigmoid, which makes ties of high scores
        self._lock = threading.Lock()  # the model's own tokenizer changes its state on every call
        self.name = name
        self.fingerprint = folder_fingerprint(path, "cross-encoder", _FILES)
        _single(self.score("a question", ["a passage"]), 1, name)

    def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Reranker. One call at a time; the others wait."""
        if not texts:
            return np.zeros(0, dtype=np.float32)
        with self._lock:
            found = self._model.predict(
                [(question, text) for text in texts],
                batch_size=BATCH,
                activation_fn=self._plain,
                show_progress_bar=False,
            )
        return _single(np.asarray(found, dtype=np.float32), len(texts), self.name)


class OnnxReranker:
    """A folder with model.onnx and tokenizer.json: an exported cross-encoder, int8 ones included."""

    def __init__(self, path: Path, name: str, threads: int | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0  # 0: all cores
        self._session = onnxruntime.InferenceSession(str(path / ONNX), options, providers=["CPUExecutionProvider"])
        self._inputs = [each.name for each in self._session.get_inputs()]
        if unknown := set(self._inputs) - _INPUTS:
            raise RerankerUnusable(name, f"{ONNX} asks for {', '.join(sorted(unknown))}, which no cross-encoder does")
        self._tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
        longest = (self._tokenizer.truncation or {}).get("max_length", _LONGEST)
        self._tokenizer.enable_truncation(longest)
        self._tokenizer.enable_padding(pad_id=self._tokenizer.token_to_id("[PAD]") or 0)
        self.name = name
        self.fingerprint = folder_fingerprint(path, f"onnx {longest}", _FILES)
        _single(self.score("a question", ["a passage"]), 1, name)

    def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """See Reranker. Batches are sorted by length: each costs as much as its longest pair."""
        scores = np.zeros(len(texts), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
        for at in range(0, len(order), BATCH):
            batch = order[at : at + BATCH]
            encoded = self._tokenizer.encode_batch([(question, texts[index]) for index in batch])
            columns: dict[str, Any] = {
                "input_ids": [each.ids for each in encoded],
                "attention_mask": [each.attention_mask for each in encoded],
                "token_type_ids": [each.type_ids for each in encoded],
            }
            given = {each: np.asarray(columns[each], dtype=np.int64) for each in self._inputs}
            scores[batch] = _single(np.asarray(self._session.run(None, given)[0]), len(batch), self.name)
        return scores


def _single(found: NDArray[Any], count: int, name: str) -> NDArray[np.float32]:
    """One score for each of `count` pairs. Of two labels (no, yes), how far yes is ahead."""
    table = found.reshape(count, -1)
    if table.shape[1] not in (1, 2):
        raise RerankerUnusable(name, f"it gives {table.shape[1]} values for a pair; a cross-encoder gives one or two")
    scores: NDArray[np.float32] = table[:, -1] - table[:, 0] if table.shape[1] == 2 else table[:, 0]
    return scores.astype(np.float32)
