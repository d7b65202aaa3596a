"""Turns files into plain documents, so that everything after this point sees text and never a file format.

UTF-8 Markdown, text and code are read here; everything else is parsed in a child process (see sandbox.py).
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

from retrieval.errors import UnreadableDocument
from retrieval.sandbox import Sandbox

MARKDOWN = frozenset({".md", ".markdown"})
_RICH = frozenset({".html", ".htm", ".pdf", ".docx", ".pptx", ".xlsx"})  # become Markdown with headings
_ROWS = frozenset({".csv", ".tsv", ".json"})
CONVERTED = _RICH | _ROWS
_TEXT = frozenset({".txt", ".rst", ".yaml", ".yml", ".toml", ".ini", ".xml", ".log"})
_CODE = frozenset(
    {".py", ".js", ".ts", ".tsx", ".jsx", ".java", ".go", ".rs", ".c", ".h", ".cpp", ".hpp", ".cs", ".rb"}
)
_MORE_CODE = frozenset({".php", ".kt", ".swift", ".scala", ".sh", ".sql", ".tf", ".proto", ".css", ".lua", ".r"})
PLAIN = _TEXT | _CODE | _MORE_CODE
SUPPORTED = MARKDOWN | CONVERTED | PLAIN
TITLE_LIMIT = 120  # characters; a longer one is a paragraph that somebody marked as a heading

# How files begin whose name may say something else.
_SIGNATURES = (
    (b"%PDF-", (".pdf",)),
    (b"PK\x03\x04", (".docx", ".pptx", ".xlsx")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", ()),
)
_ENCRYPTED = "EncryptedPackage".encode("utf-16-le")

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
        return PurePosixPath(self.source).suffix.lower() in MARKDOWN | _RICH


def load(source: str, data: bytes, sandbox: Sandbox | None = None) -> Document:
    """Reads one file's bytes. The suffix of `source` decides how. Without a `sandbox` one is started if needed.

    Raises UnreadableDocument for an unknown suffix, a broken or binary file, and a file without any text.
    """
    suffix = PurePosixPath(source).suffix.lower()
    if suffix not in SUPPORTED:
        kinds = " ".join(sorted(SUPPORTED))
        raise UnreadableDocument(source, f"file type '{suffix}' is not supported; convert it to one of: {kinds}")
    if not data:
        raise UnreadableDocument(source, "it is empty; remove it or fill it")
    _check_signature(source, suffix, data)
    text, title = _read(source, suffix, data, sandbox)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        hint = "a scanned PDF must go through text recognition first" if suffix == ".pdf" else "remove it or fill it"
        raise UnreadableDocument(source, f"it has no text; {hint}")
    if len(_UNPRINTABLE.findall(text)) * 100 > len(text):  # a few are typing or conversion accidents, 1 % is not text
        raise UnreadableDocument(source, "it is a binary file; export it as text, PDF, HTML or DOCX")
    text = text.replace("\0", "")
    if title is None and suffix in MARKDOWN | _RICH - {".xlsx"} and (heading := _FIRST_HEADING.search(text)):
        title = heading[1]
    if title is None:
        title = PurePosixPath(source).name if suffix in PLAIN else _title_from_name(source)
    return Document(source, title_of(title), text, hashlib.sha256(data).hexdigest())


def title_of(words: str) -> str:
    """A title or heading on one line, short enough to stand before a passage."""
    return " ".join(words.split())[:TITLE_LIMIT]


def _read(source: str, suffix: str, data: bytes, sandbox: Sandbox | None) -> tuple[str, str | None]:
    if suffix not in CONVERTED:
        try:
            return data.decode("utf-8-sig"), None
        except UnicodeDecodeError:
            if b"\0" in data[:4096] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UnreadableDocument(source, "it is a binary file; export it as text, PDF, HTML or DOCX") from None
    if sandbox is not None:
        return sandbox.convert(source, suffix, data)
    with Sandbox() as own:
        return own.convert(source, suffix, data)


def _check_signature(source: str, suffix: str, data: bytes) -> None:
    """Refuses content that is another format than its name says, and what only a password opens."""
    for signature, suffixes in _SIGNATURES:
        if data.startswith(signature) and suffix not in suffixes:
            if suffixes:
                really = " or ".join(suffixes)
                raise UnreadableDocument(source, f"it is really a {really} file (or an archive); rename it")
            locked = "it is encrypted; save it without a password"
            old = "it is in an old Office format; save it as .docx, .pptx or .xlsx"
            raise UnreadableDocument(source, locked if _ENCRYPTED in data else old)


def _title_from_name(source: str) -> str:
    words = re.sub(r"[-_\s]+", " ", PurePosixPath(source).stem).strip()
    return words[:1].upper() + words[1:]
