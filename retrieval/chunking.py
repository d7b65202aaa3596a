"""Cuts a document into passages that fit the embedder, at semantic borders, each knowing its place in the document.

What is embedded is the passage below its title and headings: a paragraph that says "it must be approved within ten
days" is only found by a question about expenses if "Expenses" is embedded with it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from semantic_text_splitter import MarkdownSplitter
from tokenizers import Tokenizer

from retrieval.documents import Document, title_of

_HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*")
_CHARACTERS_PER_TOKEN = 8  # English has 4 to 5; far more is a blob that the tokenizer counts as one unknown word
_LEAST_ROOM = 8
_MOST_OVERLAP = 0.5
_FENCE = re.compile(r"[ ]{0,3}(?:```|~~~)")


@dataclass(frozen=True, slots=True)
class Chunk:
    """A passage: `document.text[start:end] == text`. `heading` is the path below the title, "Leave > Parental"."""

    text: str
    start: int
    end: int
    heading: str


class Chunker:
    """Splits documents so that prefix and passage together never exceed `max_tokens`, special tokens included.

    `tokenizer` is a tokenizers.Tokenizer or its JSON; `overlap` is the share of a passage repeated from the one before
    (0.12: a sentence or two), which keeps statements whole that happen to lie on a border.
    """

    def __init__(self, tokenizer: Tokenizer | str, max_tokens: int, overlap: float = 0.12) -> None:
        source = tokenizer if isinstance(tokenizer, str) else tokenizer.to_str()
        self._tokenizer: Tokenizer = Tokenizer.from_str(source)
        self._tokenizer.no_truncation()  # both would change what the splitter counts
        self._tokenizer.no_padding()
        self._room = max_tokens - self._tokenizer.num_special_tokens_to_add(False)
        if self._room < _LEAST_ROOM or not 0 <= overlap < _MOST_OVERLAP:
            raise ValueError(f"max_tokens {max_tokens} leaves {self._room} (< {_LEAST_ROOM}), or overlap is {overlap}")
        self._overlap = overlap

    def chunk(self, document: Document) -> list[Chunk]:
        """The document's passages in order. Headings alone are no passage: they are the prefix of the next one."""
        paths = {0: ""} | (dict(_headings(document)) if document.is_markdown else {})
        capacity = self._room - max(self._count(self._prefix(document.title, path)) for path in paths.values())
        while True:
            chunks = self._split(document.text, paths, capacity)
            longest = max((self._count(self.embedded(document.title, chunk)) for chunk in chunks), default=0)
            if longest <= self._room:
                return [chunk for chunk in chunks if not _only_headings(chunk, paths)] or chunks
            capacity = max(1, capacity - (longest - self._room))  # tokens of a join may exceed the sum of the parts

    def embedded(self, title: str, chunk: Chunk) -> str:
        """The text to embed for a passage: title and headings, then the passage."""
        return f"{self._prefix(title, chunk.heading)}\n{chunk.text}"

    def _split(self, text: str, paths: dict[int, str], capacity: int) -> list[Chunk]:
        """Passages of at most `capacity` tokens. None crosses a heading: a heading is where the subject changes."""
        # Not from_huggingface_tokenizer: that copies the tokenizer, 6 MiB and many times what cutting a page takes.
        by_tokens = MarkdownSplitter.from_callback(self._count, capacity, overlap=int(capacity * self._overlap))
        by_characters = MarkdownSplitter(capacity * _CHARACTERS_PER_TOKEN)
        chunks = []
        for section, end in pairwise([*sorted(paths), len(text)]):
            for start, piece in by_tokens.chunk_indices(text[section:end]):
                for offset, part in by_characters.chunk_indices(piece):
                    at = section + start + offset
                    chunks.append(Chunk(part, at, at + len(part), paths[section]))
        return chunks

    def _prefix(self, title: str, heading: str) -> str:
        """Title and headings, cut to a quarter of the room so that they cannot crowd out the passage."""
        prefix = f"{title} > {heading}" if heading else title
        offsets = self._tokenizer.encode(prefix, add_special_tokens=False).offsets
        limit = self._room // 4
        return prefix if len(offsets) <= limit else prefix[: offsets[limit - 1][1]]

    def _count(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


def _headings(document: Document) -> Iterator[tuple[int, str]]:
    """(offset, path below the title) of every ATX heading outside code fences."""
    path: list[tuple[int, str]] = []
    start, fenced = 0, False
    for line in document.text.splitlines(keepends=True):
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and (match := _HEADING.fullmatch(line.rstrip("\n"))):
            level, name = len(match[1]), title_of(match[2])
            path = [(above, other) for above, other in path if above < level] + [(level, name)]
            names = [name for _, name in path]
            yield start, " > ".join(names[1:] if names[0] == document.title else names)
        start += len(line)


def _only_headings(chunk: Chunk, paths: dict[int, str]) -> bool:
    """Whether every line of the chunk that is not blank is a heading."""
    at = chunk.start
    for line in chunk.text.splitlines(keepends=True):
        if line.strip() and not (at in paths and _HEADING.fullmatch(line.rstrip("\n"))):
            return False
        at += len(line)
    return True
