"""Rerankers made on the spot: one without a model, an ONNX one written by hand, a cross-encoder with random weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

MARK = "right"  # what a good answer holds, for the two that know what is good


class MarkReranker:
    """Counts a word. `worth` -1 makes it as wrong as it can be, 0 indifferent."""

    def __init__(self, worth: float = 1.0) -> None:
        self.name, self.fingerprint, self._worth = "marks", f"marks {worth}", worth
        self.read: list[str] = []

    def score(self, question: str, texts: Sequence[str]) -> NDArray[np.float32]:
        del question
        self.read += texts
        return np.asarray([self._worth * text.lower().split().count(MARK) for text in texts], dtype=np.float32)


def onnx_folder(folder: Path, worth: int = 1, labels: int = 1) -> Path:
    """A model that adds up token ids, where MARK's is high; a negative `worth` turns its order around."""
    folder.mkdir()
    _tokenizer().save(str(folder / "tokenizer.json"))
    sign = "Identity" if worth > 0 else "Neg"
    nodes = [
        _node("Cast", ["input_ids"], "floats", _number("to", 1)),
        _node("ReduceSum", ["floats"], "sum", _numbers("axes", [1])),
        _node(sign, ["sum"], "yes"),
        _node("Neg", ["yes"], "no"),
        _node("Concat", ["no", "yes"][2 - min(labels, 2) :] + ["yes"] * (labels - 2), "logits", _number("axis", 1)),
    ]
    graph = b"".join(_part(1, each) for each in nodes) + _part(2, b"sums")
    graph += _part(11, _value("input_ids", 7, ["pairs", "tokens"])) + _part(12, _value("logits", 1, ["pairs", "n"]))
    (folder / "model.onnx").write_bytes(_whole(1, 6) + _part(7, graph) + _part(8, _part(1, b"") + _whole(2, 11)))
    return folder


def cross_encoder_folder(folder: Path, seed: int = 0, labels: int = 1) -> Path:
    """A BERT of a few numbers."""
    torch.manual_seed(seed)
    size: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    size |= {"intermediate_size": 16, "vocab_size": 2000, "max_position_embeddings": 64, "num_labels": labels}
    config = BertConfig(**size)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokens = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=_tokenizer(), model_max_length=64, **tokens).save_pretrained(folder)
    return folder


def _tokenizer() -> Tokenizer:
    known = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, MARK: 1000}
    words = {f"w{number}": number for number in range(10, 60)}
    tokenizer = Tokenizer(WordLevel(known | words, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def _whole(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _part(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(name: str, value: int) -> bytes:
    return _part(1, name.encode()) + _whole(3, value) + _whole(20, 2)


def _numbers(name: str, values: Sequence[int]) -> bytes:
    return _part(1, name.encode()) + b"".join(_whole(8, value) for value in values) + _whole(20, 7)


def _node(kind: str, inputs: Sequence[str], output: str, attribute: bytes | None = None) -> bytes:
    parts = b"".join(_part(1, each.encode()) for each in inputs) + _part(2, output.encode()) + _part(4, kind.encode())
    return parts if attribute is None else parts + _part(5, attribute)


def _value(name: str, kind: int, shape: Sequence[str]) -> bytes:
    dimensions = b"".join(_part(1, _part(2, each.encode())) for each in shape)
    return _part(1, name.encode()) + _part(2, _part(1, _whole(1, kind) + _part(2, dimensions)))
