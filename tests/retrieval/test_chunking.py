"""Chunks point into the document, fit the embedder with their prefix, and know their headings."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from retrieval.chunking import Chunker
from retrieval.documents import load
from retrieval.hashing import HashingEmbedder
from retrieval.model_folder import packaged_minilm

BERT = Tokenizer.from_file(str(packaged_minilm() / "tokenizer.json"))  # comes with truncation and padding to 128
WORDS = HashingEmbedder().tokenizer

HANDBOOK = """# Leave

Everybody has leave.

## Parental leave

### Who
Parents.

```
# not a heading
```

### How long
"""
HANDBOOK += "You get twenty weeks on full pay. " * 40 + "\n\n## Sick leave\n\nCall your boss.\n"

MARKDOWN = st.lists(
    st.sampled_from(
        ["# A", "## B " * 5, "### " + "long " * 60, "word " * 30, "x" * 900, "日本語🎉é" * 20, "```", "- a\n- b", ""]
    ),
    max_size=12,
).map("\n".join)


@pytest.mark.parametrize("max_tokens", [16, 40, 256])
def test_headings_are_the_path_below_the_title(max_tokens: int) -> None:
    chunks = Chunker(BERT, max_tokens).chunk(load("leave.md", HANDBOOK.encode()))
    assert list(dict.fromkeys(chunk.heading for chunk in chunks)) == [
        "", "Parental leave > Who", "Parental leave > How long", "Sick leave",
    ]  # fmt: skip
    assert all("#" not in chunk.text.splitlines()[-1] or "not a heading" in chunk.text for chunk in chunks)


def test_embedded_text_starts_with_title_and_headings() -> None:
    chunker = Chunker(BERT, 256)
    document = load("leave.md", HANDBOOK.encode())
    who = next(chunk for chunk in chunker.chunk(document) if "Parents." in chunk.text)
    assert chunker.embedded(document.title, who) == f"Leave > Parental leave > Who\n{who.text}"


@pytest.mark.parametrize("tokenizer", [BERT, WORDS])
@pytest.mark.parametrize("max_tokens", [12, 64, 256])
@given(text=MARKDOWN)
@settings(max_examples=40, deadline=None)
def test_every_chunk_fits_and_points_into_the_text(tokenizer: Tokenizer, max_tokens: int, text: str) -> None:
    document = load("a.md", f"start {text}".encode())
    chunker = Chunker(tokenizer, max_tokens)
    chunks = chunker.chunk(document)
    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.no_truncation()
    plain.no_padding()
    covered = set[int]()
    for chunk in chunks:
        assert document.text[chunk.start : chunk.end] == chunk.text != ""
        assert len(plain.encode(chunker.embedded(document.title, chunk)).ids) <= max_tokens
        covered.update(range(chunk.start, chunk.end))
    lost = "".join(char for at, char in enumerate(document.text) if at not in covered)
    assert all(not line.strip() or line.lstrip().startswith("#") for line in lost.splitlines())  # headings and blanks


def test_neighbours_overlap_within_a_section() -> None:
    text = " ".join(f"Sentence number {n} is here." for n in range(200))
    with_overlap = Chunker(BERT, 64, overlap=0.25).chunk(load("a.txt", text.encode()))
    without = Chunker(BERT, 64, overlap=0.0).chunk(load("a.txt", text.encode()))
    assert any(b.start < a.end for a, b in pairwise(with_overlap))
    assert all(b.start >= a.end for a, b in pairwise(without))


def test_a_blob_that_is_one_token_is_still_cut() -> None:
    document = load("key.txt", ("A" * 50_000).encode())
    assert max(len(chunk.text) for chunk in Chunker(BERT, 256).chunk(document)) <= 256 * 8


def test_comments_in_code_are_no_headings() -> None:
    chunks = Chunker(BERT, 64).chunk(load("a.py", b"# comment\nx = 1\n"))
    assert [(chunk.heading, chunk.text) for chunk in chunks] == [("", "# comment\nx = 1")]


def test_a_document_of_headings_only_is_kept() -> None:
    assert [chunk.text for chunk in Chunker(BERT, 64).chunk(load("a.md", b"# One\n## Two\n"))] == ["# One", "## Two"]


def test_refuses_a_limit_without_room() -> None:
    with pytest.raises(ValueError, match="max_tokens"):
        Chunker(BERT, 9)
