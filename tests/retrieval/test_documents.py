"""What can be read is read right, and what cannot is refused by name with a next step."""

import io
import random
import zipfile
from pathlib import Path

import docx
import pytest
from reportlab.pdfgen.canvas import Canvas

from retrieval.documents import SUPPORTED, load, walk
from retrieval.errors import UnreadableDocument


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
    ],
)
def test_reads_every_kind(source: str, data: bytes, title: str, contains: str) -> None:
    document = load(source, data)
    assert (document.source, document.title) == (source, title)
    assert contains in document.text
    assert len(document.sha256) == 64


def test_html_scripts_are_not_text() -> None:
    assert "alert" not in load("a.html", b"<p>Hi</p><script>alert(1)</script>").text


@pytest.mark.parametrize(
    ("source", "data", "says"),
    [
        ("a.exe", b"MZ", "convert it to one of"),
        ("README", b"text", "not supported"),
        ("a.md", b"", "no text"),
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
def test_refuses_what_it_cannot_read(source: str, data: bytes, says: str) -> None:
    with pytest.raises(UnreadableDocument, match=says) as caught:
        load(source, data)
    assert caught.value.source == source


def test_a_zip_called_docx_is_not_unpacked() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("inner.html", "<p>secret</p>")
    with pytest.raises(UnreadableDocument):
        load("a.docx", out.getvalue())


def test_walk_is_sorted_and_stays_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    root = tmp_path / "docs"
    for name in ("b.md", "a/z.txt", "a/c.pdf", ".hidden.md", ".git/x.md", "picture.png"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / "link.md").symlink_to(outside / "secret.md")
    (root / "linked").symlink_to(outside)
    (root / "inside.md").symlink_to(root / "b.md")
    (root / "broken.md").symlink_to(root / "nowhere.md")
    assert [source for source, _ in walk(root)] == ["a/c.pdf", "a/z.txt", "b.md", "inside.md"]


def test_walk_of_one_file_yields_it_even_if_unsupported(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"x")
    assert list(walk(file)) == [("a.png", file)]
    assert ".png" not in SUPPORTED


def test_walk_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match="check the path"):
        list(walk(tmp_path / "nope"))
