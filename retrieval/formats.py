"""Bytes of a file to Markdown. Runs in the child process only: whatever a file does here, it does to the child.

Word, PowerPoint, HTML and short PDFs go through markitdown, long PDFs through PDFium (a hundred times faster, but blind
to tables), workbooks through openpyxl, row by row. Formats are never guessed from the content: a guess would, for
example, unpack archives.
"""

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, time

import openpyxl
import pypdfium2
from charset_normalizer import from_bytes
from markitdown import DocumentConverter, StreamInfo
from markitdown.converters import DocxConverter, HtmlConverter, PdfConverter, PptxConverter

from retrieval.tables import markdown

TABLE_PAGES = 50  # of a PDF: looking for tables takes 0.1 s a page

_OFFICE = {".docx": "word/", ".pptx": "ppt/", ".xlsx": "xl/"}
_DECLARATION = tuple("<!DOCTYPE".encode(encoding) for encoding in ("ascii", "utf-16-le", "utf-16-be"))
_LONGEST_LINE = 500  # characters of JSON
_SLIDE = re.compile(r"<!-- Slide number: \d+ -->\n?")


class Refused(Exception):
    """What is wrong with the file; one of the words that retrieval.sandbox knows, and a detail."""

    def __init__(self, problem: str, detail: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.detail = detail


Result = tuple[str, str | None]  # text, and the title if the format has one


def convert(suffix: str, data: bytes, unpacked_bytes: int) -> Result:
    """`suffix` is one of CONVERTERS, or any other for text that is not UTF-8. Raises Refused, and whatever parsers do.

    `unpacked_bytes` is how large the parts of an office file may be, unpacked.
    """
    if suffix in _OFFICE:
        _check_office(suffix, data, unpacked_bytes)
    return CONVERTERS.get(suffix, _text)(data)


def decode(data: bytes) -> str:
    """UTF-8, or what a byte order mark says, or what charset-normalizer finds if it recognises the language too.

    Never a guess that could be wrong unseen: a file that is partly UTF-8 is refused.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    broken = [_is_utf8(line) for line in data.splitlines() if not line.isascii()]
    if any(broken) and not all(broken) and b"\0" not in data:
        raise Refused("mixed")
    best = from_bytes(data).best()
    if best is None or not (best.bom or best.coherence > 0):
        raise Refused("encoding")
    return str(best)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _check_office(suffix: str, data: bytes, unpacked_bytes: int) -> None:
    """Before any parser sees it: what it is, how large it would become, and that no part defines entities."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile:
        raise Refused("invalid") from None
    with archive:
        parts = archive.infolist()
        if (size := sum(part.file_size for part in parts)) > unpacked_bytes:
            raise Refused("unpacks", f"{size / 1e6:.0f} MB")
        if any(part.flag_bits & 1 for part in parts):
            raise Refused("encrypted")
        if not any(part.filename.startswith(_OFFICE[suffix]) for part in parts):
            kinds = [kind for kind, folder in _OFFICE.items() if any(p.filename.startswith(folder) for p in parts)]
            raise Refused("renamed", kinds[0]) if kinds else Refused("invalid")
        for part in parts:
            if part.filename.endswith((".xml", ".rels")):
                content = archive.read(part)
                if any(mark in content for mark in _DECLARATION):
                    raise Refused("entities")


def _markitdown(converter: DocumentConverter, suffix: str) -> Callable[[bytes], Result]:
    def run(data: bytes) -> Result:
        result = converter.convert(io.BytesIO(data), StreamInfo(extension=suffix))
        return result.markdown, (result.title or "").strip() or None

    return run


def _pdf(data: bytes) -> Result:
    try:
        pdf = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        if "password" in str(error).lower():
            raise Refused("encrypted") from None
        return _SMALL_PDF(data)  # it mends some of what PDFium refuses
    with pdf:
        if len(pdf) > TABLE_PAGES:
            return "\n\n".join(page.get_textpage().get_text_bounded() for page in pdf), None
    return _SMALL_PDF(data)


def _pptx(data: bytes) -> Result:
    text, title = _SLIDES(data)
    return _SLIDE.sub("", text), title


def _xlsx(data: bytes) -> Result:
    workbook = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
    sheets = []
    for sheet in workbook.worksheets:
        sheet.reset_dimensions()  # what the file says about its size need not be true
        table = markdown([_cell(value) for value in row] for row in sheet.iter_rows(values_only=True))
        if table:
            sheets.append(f"## {sheet.title}\n\n{table}")
    return "\n\n".join(sheets), None


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return f"{value:.15g}" if isinstance(value, float) else str(value)


def _csv(data: bytes) -> Result:
    text = decode(data)
    csv.field_size_limit(len(text) + 1)
    try:
        delimiter = csv.Sniffer().sniff(text[:4096], ",;\t|").delimiter
    except csv.Error:  # one column
        delimiter = ","
    return markdown(_rows(text, delimiter)), None


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def _json(data: bytes) -> Result:
    """As it is, unless a program wrote it on one line, which nobody can cut with sense."""
    text = decode(data)
    if max(map(len, text.splitlines()), default=0) <= _LONGEST_LINE:
        return text, None
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, indent=1), None
    except ValueError:  # with comments, several values, or cut off: still text
        return text, None


def _text(data: bytes) -> Result:
    return decode(data), None


_HTML = _markitdown(HtmlConverter(), ".html")
_SMALL_PDF = _markitdown(PdfConverter(), ".pdf")
_WORD = _markitdown(DocxConverter(), ".docx")  # type: ignore[no-untyped-call]  # upstream has no types
_SLIDES = _markitdown(PptxConverter(), ".pptx")  # type: ignore[no-untyped-call]  # upstream has no types

CONVERTERS: Mapping[str, Callable[[bytes], Result]] = {
    ".html": _HTML,
    ".htm": _HTML,
    ".pdf": _pdf,
    ".docx": _WORD,
    ".pptx": _pptx,
    ".xlsx": _xlsx,
    ".csv": _csv,
    ".tsv": _csv,
    ".json": _json,
}
