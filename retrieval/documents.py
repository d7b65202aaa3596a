"""Turns files into plain documents, so that everything after this point sees text and never a file format.

Markdown, text and code are read as they are; HTML, PDF and Word go through markitdown, of which only those three
converters are enabled: it would otherwise guess a format from the content and, for example, unpack archives.
"""

import functools
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from markitdown import MarkItDown, MarkItDownException, StreamInfo
from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter

from retrieval.errors import UnreadableDocument

MARKDOWN = frozenset({".md", ".markdown"})
CONVERTED = frozenset({".html", ".htm", ".pdf", ".docx"})
_TEXT = frozenset({".txt", ".rst", ".csv", ".json", ".yaml", ".yml", ".toml", ".ini"})
_CODE = frozenset(
    {".py", ".js", ".ts", ".tsx", ".jsx", ".java", ".go", ".rs", ".c", ".h", ".cpp", ".hpp", ".cs", ".rb"}
)
_MORE_CODE = frozenset({".php", ".kt", ".swift", ".scala", ".sh", ".sql", ".tf", ".proto"})
PLAIN = _TEXT | _CODE | _MORE_CODE
SUPPORTED = MARKDOWN | CONVERTED | PLAIN
TITLE_LIMIT = 120  # characters; a longer one is a paragraph that somebody marked as a heading

_UNPRINTABLE = re.compile(r"[\x00-\x08\x0e-\x1f\x7f\ufffd]")
_FIRST_HEADING = re.compile(r"^#[ \t]+(.+?)[ \t]*#*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Document:
    """One readable document. Chunks and citations point into `text` by character offset."""

    source: str  # posix path relative to the ingested folder
    title: str
    text: str
    sha256: str  # of the file's bytes, not of the text

    @property
    def is_markdown(self) -> bool:
        """Whether lines that start with # are headings (in code and plain text they are comments)."""
        return PurePosixPath(self.source).suffix.lower() in MARKDOWN | CONVERTED


def load(source: str, data: bytes) -> Document:
    """Reads one file's bytes. The suffix of `source` decides how.

    Raises UnreadableDocument for an unknown suffix, a broken or binary file, and a file without any text.
    """
    suffix = PurePosixPath(source).suffix.lower()
    if suffix not in SUPPORTED:
        kinds = " ".join(sorted(SUPPORTED))
        raise UnreadableDocument(source, f"file type '{suffix}' is not supported; convert it to one of: {kinds}")
    text, title = _convert(source, suffix, data) if suffix in CONVERTED else (_decode(source, data), None)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        hint = "a scanned PDF must go through text recognition first" if suffix == ".pdf" else "remove it or fill it"
        raise UnreadableDocument(source, f"it has no text; {hint}")
    if len(_UNPRINTABLE.findall(text)) * 100 > len(text):  # a few are typing or conversion accidents, 1 % is not text
        raise UnreadableDocument(source, "it is a binary file; export it as text, PDF, HTML or DOCX")
    text = text.replace("\0", "")
    if title is None and suffix in MARKDOWN | CONVERTED and (heading := _FIRST_HEADING.search(text)):
        title = heading[1]
    if title is None:
        title = PurePosixPath(source).name if suffix in PLAIN else _title_from_name(source)
    return Document(source, title_of(title), text, hashlib.sha256(data).hexdigest())


def title_of(words: str) -> str:
    """A title or heading on one line, short enough to stand before a passage."""
    return " ".join(words.split())[:TITLE_LIMIT]


def walk(path: Path) -> Iterator[tuple[str, Path]]:
    """Yields (source, file) for a file, or for every supported file below a folder, sorted by source.

    Hidden files and folders are skipped, and so are links that leave the folder. A file named explicitly is always
    yielded, so that load() can say why it is unreadable. Raises UnreadableDocument if `path` does not exist.
    """
    if path.is_file():
        yield path.name, path
        return
    if not path.is_dir():
        raise UnreadableDocument(str(path), "there is no such file or folder; check the path")
    root = path.resolve()
    for file in sorted(path.rglob("*")):
        relative = file.relative_to(path)
        hidden = any(part.startswith(".") for part in relative.parts)
        if hidden or file.suffix.lower() not in SUPPORTED or not file.is_file():
            continue
        if file.resolve().is_relative_to(root):
            yield relative.as_posix(), file


def _decode(source: str, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UnreadableDocument(source, "it is not UTF-8 text; save it as UTF-8") from error


def _convert(source: str, suffix: str, data: bytes) -> tuple[str, str | None]:
    try:
        result = _converter().convert_stream(io.BytesIO(data), stream_info=StreamInfo(extension=suffix))
    except MarkItDownException as error:
        raise UnreadableDocument(source, f"it is not a valid {suffix[1:]} file; open and save it again") from error
    title = (result.title or "").strip()
    return result.markdown, title or None


@functools.cache
def _converter() -> MarkItDown:
    converter = MarkItDown(enable_builtins=False, enable_plugins=False)
    for kind in (HtmlConverter(), PdfConverter(), DocxConverter()):  # type: ignore[no-untyped-call]  # upstream has no types
        converter.register_converter(kind)
    return converter


def _title_from_name(source: str) -> str:
    words = re.sub(r"[-_\s]+", " ", PurePosixPath(source).stem).strip()
    return words[:1].upper() + words[1:]
