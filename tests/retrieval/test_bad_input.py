"""Hostile and broken files: each costs itself, with a line that says what to do, and the next file is read."""

import io
import os
import signal
import sys
import threading
import time
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import docx
import pytest
from docx.document import Document as WordDocument
from docx.opc.constants import RELATIONSHIP_TYPE
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from retrieval.chunking import Chunker
from retrieval.documents import load
from retrieval.errors import UnreadableDocument
from retrieval.hashing import HashingEmbedder
from retrieval.passages import Scope
from retrieval.pipeline import Retriever
from retrieval.sandbox import Limits, Sandbox
from retrieval.store import Store

LAUGHS = b'<!DOCTYPE x [<!ENTITY a "lol">' + b"".join(
    b'<!ENTITY %c "%s">' % (letter + 1, b"&%c;" % letter * 10) for letter in range(ord("a"), ord("k"))
)
FINE = ("fine.html", b"<h1>Fine</h1><p>As ever.</p>")


@pytest.fixture(scope="module")
def tight() -> Iterator[Sandbox]:
    with Sandbox(Limits(memory_mib=200, cpu_s=4, wall_s=8, text_bytes=200_000)) as box:
        yield box


def word(document: WordDocument | None = None) -> bytes:
    out = io.BytesIO()
    (document or docx.Document()).save(out)
    return out.getvalue()


def rewritten(data: bytes, part: str, content: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, content if entry.filename == part else old.read(entry))
    return out.getvalue()


def pdf(encrypt: StandardEncryption | None = None) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, encrypt=encrypt)
    canvas.drawString(72, 700, "Five years.")
    canvas.save()
    return out.getvalue()


def pdf_bomb(size: int) -> bytes:
    """One page whose drawing is `size` bytes of text operators, packed a thousandfold."""
    packed = zlib.compress(b"BT /F1 9 Tf (lol) Tj ET\n" * (size // 24), 9)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(packed), packed),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    return out + b"xref\n0 6\n0000000000 65535 f \n%strailer\n<< /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (
        table,
        len(out),
    )


def old_office(content: bytes) -> bytes:
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 500 + content


@pytest.mark.parametrize(
    ("source", "data", "says"),
    [
        ("a.md", b"", "empty"),
        ("a.pdf", b"", "empty"),
        ("a.docx", b"", "empty"),
        ("a.pdf", pdf(StandardEncryption("secret", canPrint=0)), "encrypted; save it without a password"),
        ("a.docx", old_office("EncryptedPackage".encode("utf-16-le")), "encrypted; save it without a password"),
        ("a.doc", b"x", "not supported"),
        ("a.docx", old_office(b""), "old Office format"),
        ("a.txt", pdf(), "really a .pdf"),
        ("a.docx", pdf(), "really a .pdf"),
        ("a.pdf", word(), "really a .docx"),
        ("a.xlsx", word(), "really a .docx"),
        ("a.html", word(), "really a .docx"),
        ("a.pdf", b"<html>not found</html>", "not a valid pdf"),
        ("a.docx", word()[:3000], "not a valid docx"),
        ("a.docx", rewritten(word(), "word/document.xml", LAUGHS + b"]><x>&k;</x>"), "XML entities"),
        ("a.docx", rewritten(word(), "word/document.xml", (LAUGHS + b"]>").decode().encode("utf-16")), "XML entities"),
        ("a.docx", rewritten(word(), "word/document.xml", b" " * 300_000_000), "unpacks to 301 MB"),
        ("a.txt", "Größe\n".encode() + "Höhe\n".encode("latin-1"), "some of its lines are UTF-8"),
        ("a.txt", "kurz: ö".encode("latin-1"), "encoding cannot be told"),
        ("a.csv", "naïve;é\n".encode() + "é\n".encode("latin-1"), "some of its lines are UTF-8"),
        ("a.csv", b"\0\1\2\3" * 100, "binary"),
        ("a.json", b"[" * 100_000, "not a valid json"),
        ("a.html", b"<p>" + b"word " * 60_000, "longer than 200000 bytes"),
    ],
)
def test_each_is_refused_with_a_line(tight: Sandbox, source: str, data: bytes, says: str) -> None:
    with pytest.raises(UnreadableDocument, match=says) as caught:
        load(source, data, tight)
    assert caught.value.source == source
    assert "\n" not in str(caught.value)
    assert load(*FINE, tight).title == "Fine"


def test_a_bomb_meets_a_limit(tight: Sandbox) -> None:
    started = time.monotonic()
    with pytest.raises(UnreadableDocument, match=r"memory|processor|longer than") as caught:
        load("bomb.pdf", pdf_bomb(400_000_000), tight)
    assert time.monotonic() - started < 30, caught.value
    assert load(*FINE, tight).title == "Fine"


def test_entities_in_plain_xml_stay_text() -> None:
    assert load("a.xml", LAUGHS + b"]><x>&k;</x>").text.endswith("<x>&k;</x>")


def test_no_file_of_this_machine_gets_into_a_document(tight: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("canary")
    entity = f'<!DOCTYPE x [<!ENTITY e SYSTEM "{secret.as_uri()}">]>'.encode()
    with pytest.raises(UnreadableDocument, match="XML entities"):
        load("a.docx", rewritten(word(), "word/document.xml", entity + b"<x>&e;</x>"), tight)
    linked = docx.Document()
    linked.add_paragraph("A picture:")
    reference = linked.part.relate_to(secret.as_uri(), RELATIONSHIP_TYPE.IMAGE, is_external=True)
    drawing = (
        b'<w:p><w:r><w:pict xmlns:v="urn:schemas-microsoft-com:vml"><v:shape><v:imagedata r:id="%s"/></v:shape>'
        b"</w:pict></w:r></w:p>" % reference.encode()
    )
    whole = word(linked)
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        body = archive.read("word/document.xml").replace(b"<w:sectPr", drawing + b"<w:sectPr", 1)
    assert reference.encode() in body
    data = rewritten(whole, "word/document.xml", body)
    for source, content in (("a.docx", data), ("a.html", f'<p>x</p><img src="{secret.as_uri()}">'.encode())):
        try:
            text = load(source, content, tight).text
        except UnreadableDocument as error:
            text = str(error)
        assert "canary" not in text and "Y2FuYXJ5" not in text  # in base64


def test_a_crash_costs_one_file(tight: Sandbox) -> None:
    load(*FINE, tight)
    pid = tight.pid
    assert pid is not None
    killer = threading.Timer(0.3, os.kill, (pid, signal.SIGSEGV))
    killer.start()
    with pytest.raises(UnreadableDocument, match="parser crashed"):
        load("slow.pdf", pdf_bomb(40_000_000), tight)
    assert load(*FINE, tight).title == "Fine"
    assert tight.pid != pid


def test_a_parser_that_hangs_is_ended_by_the_clock() -> None:
    with Sandbox(Limits(wall_s=2)) as box:
        load(*FINE, box)
        pid = box.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(UnreadableDocument, match="longer than 2 s"):
            load(*FINE, box)
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_one_process_serves_many_files_and_ends() -> None:
    files = [("plain.md", b"# No process is needed"), FINE, ("a.csv", b"a,b\n1,2\n"), FINE]
    with Sandbox() as box:
        pids = [(load(*file, box), box.pid)[1] for file in files]
    nobody, first, *others = pids
    assert nobody is None
    assert first is not None and others == [first, first]
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc")
def test_its_process_is_limited_and_the_first_to_go(tight: Sandbox) -> None:
    load(*FINE, tight)
    process = Path(f"/proc/{tight.pid}")
    limits = dict(line.rsplit(None, 3)[:2] for line in (process / "limits").read_text().splitlines()[1:])
    mapped = int((process / "statm").read_text().split()[0]) * 4096
    assert 0 < int(limits["Max address space"]) <= mapped + (400 << 20)
    assert limits["Max core file size"] == "0"
    assert (process / "oom_score_adj").read_text().strip() == "1000"
    assert os.getsid(int(process.name)) == int(process.name) != os.getsid(0)


def test_closing_gives_up_the_file_that_is_being_parsed() -> None:
    box = Sandbox()
    load(*FINE, box)
    threading.Timer(0.3, box.close).start()
    started = time.monotonic()
    with pytest.raises(UnreadableDocument, match="stopping"):
        load("slow.pdf", pdf_bomb(40_000_000), box)
    with pytest.raises(UnreadableDocument, match="stopping"):
        load(*FINE, box)
    assert time.monotonic() - started < 5
    assert box.pid is None


def test_a_broken_update_keeps_the_version_that_was_there(retriever: Retriever, me: Scope) -> None:
    good = docx.Document()
    good.add_paragraph("Five days move to the next year.")
    assert retriever.ingest(me, "hb", "a.docx", word(good)).status == "added"
    with pytest.raises(UnreadableDocument):
        retriever.ingest(me, "hb", "a.docx", word(good)[:2000])
    assert "Five days" in retriever.search(me, "hb", "days next year", 1, -1.0).passages[0].text


def test_an_unchanged_file_is_not_parsed_again(store: Store, hashing: HashingEmbedder, me: Scope) -> None:
    with Sandbox() as box:
        retriever = Retriever(store, hashing, Chunker(hashing.tokenizer, hashing.max_tokens), sandbox=box)
        assert retriever.ingest(me, "hb", *FINE).status == "added"
        box.close()
        assert retriever.ingest(me, "hb", *FINE).status == "unchanged"
        assert box.pid is None


def test_two_ingestions_of_one_folder_at_once_end_right(retriever: Retriever, me: Scope) -> None:
    versions = [[(f"{n}.md", f"# Doc {n}\n\nversion {v} of {n}".encode()) for n in range(20)] for v in (1, 2)]
    threads = [
        threading.Thread(target=lambda files=files: [retriever.ingest(me, "hb", *file) for file in files])
        for files in versions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = retriever.search(me, "hb", "version of", 100, -1.0).passages
    assert sorted(passage.source for passage in found) == sorted(f"{n}.md" for n in range(20))
