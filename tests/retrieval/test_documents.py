"""What can be read is read right, and what cannot is refused by name with a next step."""

import io
import random
import zipfile
from datetime import datetime
from typing import Any

import docx
import openpyxl
import pptx
import pytest
from reportlab.pdfgen.canvas import Canvas

from retrieval.documents import load
from retrieval.errors import UnreadableDocument
from retrieval.sandbox import Sandbox


def pdf(*lines: str) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out)
    for number, line in enumerate(lines):
        canvas.drawString(72, 700 - 20 * number, line)
    canvas.save()
    return out.getvalue()


def word(heading: str, text: str) -> bytes:
    document = docx.Document()
    document.add_heading(heading, 1)
    document.add_paragraph(text)
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def slides(title: str, text: str) -> bytes:
    presentation = pptx.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    assert slide.shapes.title is not None
    slide.shapes.title.text = title
    slide.placeholders[1].text_frame.text = text
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def workbook(*rows: list[Any]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


GERMAN = "Die Größe der Räume und die Höhe der Überstunden werden jährlich geprüft und veröffentlicht.\n" * 3


@pytest.mark.parametrize(
    ("source", "data", "title", "contains"),
    [
        ("people/leave.md", b"# Annual leave #\r\n\r\n28 days.", "Annual leave", "\n\n28 days."),
        ("people/sick_leave-rules.md", b"Call your boss.", "Sick leave rules", "Call"),
        ("tool.py", b"# not a heading\nx = 1\n", "tool.py", "x = 1"),
        ("bom.txt", "\ufeffStraße".encode(), "bom.txt", "Straße"),
        ("page.html", b"<title>The page</title><h1>Top</h1><script>alert(1)</script><p>Hi</p>", "The page", "# Top"),
        ("UPPER.HTM", b"<h2>Two</h2><p>Hi</p>", "UPPER", "## Two"),
        ("form.docx", word("Travel", "Paid in ten days."), "Travel", "Paid in ten days."),
        ("scan.pdf", pdf("Guarantee", "Five years."), "Scan", "Five years."),
        ("slides.pptx", slides("Plan", "Buy time."), "Plan", "# Plan\nBuy time."),
        ("price_list.xlsx", workbook(["item", "price"], ["rope", 12.5]), "Price list", "| rope | 12.5 |"),
        ("prices.csv", b"item;price\nrope;12,5\n", "Prices", "| rope | 12,5 |"),
        ("prices.tsv", b"item\tprice\nrope\t12.5\n", "Prices", "| rope | 12.5 |"),
        ("short.json", b'{"price": 12.50}', "Short", '{"price": 12.50}'),
        ("one-line.json", b'{"item": {"price": 12.5%s}}' % (b" " * 500), "One line", '\n  "price": 12.5\n'),
        ("lines.json", b'{"a": 1}\n{"a": 2}\n', "Lines", '{"a": 2}'),
        ("feed.xml", b"<item>rope</item>", "feed.xml", "<item>"),
        ("old.txt", GERMAN.encode("latin-1"), "old.txt", "Größe"),
        ("wide.txt", GERMAN.encode("utf-16"), "wide.txt", "Größe"),
        ("old.csv", f"was\n{GERMAN}".encode("cp1252"), "Old", "Größe"),
    ],
)
def test_reads_every_kind(source: str, data: bytes, title: str, contains: str, sandbox: Sandbox) -> None:
    document = load(source, data, sandbox)
    assert (document.source, document.title) == (source, title)
    assert contains in document.text
    assert len(document.sha256) == 64


def test_html_scripts_are_not_text(sandbox: Sandbox) -> None:
    assert "alert" not in load("a.html", b"<p>Hi</p><script>alert(1)</script>", sandbox).text


@pytest.mark.parametrize(
    ("source", "data", "says"),
    [
        ("a.exe", b"MZ", "convert it to one of"),
        ("README", b"text", "not supported"),
        ("a.md", b"", "empty"),
        ("a.md", b" \n\t\n", "no text"),
        ("a.txt", b"caf\xe9", "save it as UTF-8"),
        ("a.txt", b"\0\1\2\3" * 50, "binary"),
        ("a.pdf", b"plain text", "not a valid pdf"),
        ("a.pdf", pdf("x")[:300], "not a valid pdf"),
        ("a.docx", b"PK\x03\x04" + b"\7" * 99, "not a valid docx"),
        ("a.pdf", pdf(), "no text"),
        ("a.html", random.Random(1).randbytes(3000), "binary"),
        ("a.html", b"<p> </p>", "no text"),
    ],
)
def test_refuses_what_it_cannot_read(source: str, data: bytes, says: str, sandbox: Sandbox) -> None:
    with pytest.raises(UnreadableDocument, match=says) as caught:
        load(source, data, sandbox)
    assert caught.value.source == source


def test_a_zip_called_docx_is_not_unpacked(sandbox: Sandbox) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("inner.html", "<p>secret</p>")
    with pytest.raises(UnreadableDocument):
        load("a.docx", out.getvalue(), sandbox)


def test_a_workbook_keeps_sheets_dates_and_column_names(sandbox: Sandbox) -> None:
    rows: list[list[Any]] = [
        ["name", "since"],
        *([f"person {n} " + "x" * 40, datetime(2024, 1, n % 28 + 1)] for n in range(60)),
    ]
    text = load("a.xlsx", workbook(*rows), sandbox).text
    assert text.startswith("## Sheet\n\n| name | since |\n|---|---|\n| person 0 ")
    assert "| 2024-01-02 |" in text
    tables = text.split("\n\n")[1:]
    assert len(tables) > 3
    assert all(table.startswith("| name | since |") and len(table) <= 500 for table in tables)


def test_a_long_pdf_is_read_too(sandbox: Sandbox) -> None:
    out = io.BytesIO()
    canvas = Canvas(out)
    for page in range(60):
        canvas.drawString(72, 700, f"Page number {page}.")
        canvas.showPage()
    canvas.save()
    text = load("a.pdf", out.getvalue(), sandbox).text
    assert "Page number 0." in text and "Page number 59." in text
