"""`breakeven ingest` as a process: killed, summing up, and through a gateway."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from retrieval.errors import UnreadableDocument
from serving.access import File, open_documents
from serving.ingestion import Ingestion, Job, Pass
from tests.serving.gateways import running, settings_for
from tests.serving.shelf import Shelf, job, open_retrieved, quiet

ROOT = Path(__file__).parents[2]

KILLED = """
import sys
from pathlib import Path
from rich.console import Console
from serving.ingestion import Ingestion, Job
from tests.serving.shelf import open_retrieved
from tests.serving.test_ingest_process import Told

with open_retrieved(Path(sys.argv[1])) as documents:
    Ingestion(Job(Path(sys.argv[2]), "books", ("everyone",), 1000), Told(documents), Console(quiet=True)).run()
"""


class Told(Shelf):
    """Says on stdout what is on disk."""

    def __init__(self, documents: Shelf) -> None:
        super().__init__()
        self.documents = documents

    def put(self, knowledge: str, files: Sequence[File], groups: Sequence[str]) -> list[str | UnreadableDocument]:
        done = self.documents.put(knowledge, files, groups)
        print(*(source for source, _ in files), sep="\n", flush=True)  # noqa: T201  # the test that started this reads it
        return done


def test_a_killed_ingestion_is_continued_by_the_next(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for number in range(900):
        (docs / f"{number:03}.md").write_text(f"# Number {number}\n\nThis one is about {number} ropes.\n")
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "store"), str(docs)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout is not None
        told = [process.stdout.readline().strip() for _ in range(256)]
        process.kill()
    assert told == [f"{number:03}.md" for number in range(256)]
    with open_retrieved(tmp_path / "store") as documents:
        done = Ingestion(job(docs), documents, quiet()).run()
        assert done.counts["unchanged"] >= 256
        assert done.counts["unchanged"] + done.counts["added"] == 900
        assert done.counts["added"] > 0, "it was killed too late"
        assert documents.store.count() == 900


def test_the_command_sums_up(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "rope.md").write_text("# Rope\n\nA rope holds.\n")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.4 broken")
    (docs / "photo.jpg").touch()
    done = subprocess.run(
        [sys.executable, "-m", "breakeven", "ingest", "docs", "--knowledge", "kb", "--delete"],
        capture_output=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "BREAKEVEN_HOME": str(tmp_path / "home"), "COLUMNS": "300"},
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stdout.startswith("kb: 1 added, 1 failed in ")
    assert "failed: cannot read broken.pdf: it is not a valid pdf" in done.stderr
    assert "not supported: 1 .jpg" in done.stderr
    assert "Traceback" not in done.stderr


async def test_through_the_gateway(tmp_path: Path) -> None:
    folder = tmp_path / "docs"
    (folder / "sub").mkdir(parents=True)
    for name in ("a.md", "b.md", "sub/c.md"):
        (folder / name).write_text(name)
    (folder / "broken.docx").write_bytes(b"PK\x03\x04 broken")
    (folder / "large.md").write_text("x" * 2000)
    settings = settings_for(tmp_path / "home", server={"max_document_bytes": 1500})

    def work() -> list[Pass]:
        with open_documents(settings) as documents:
            wide = Job(folder, "kb", ("everyone",), 10_000, True)  # the gateway's own limit is lower
            first = Ingestion(wide, documents, quiet()).run()
            (folder / "sub" / "c.md").unlink()
            second = Ingestion(wide, documents, quiet()).run()
            assert documents.sources("kb") == {"a.md", "b.md"}
            assert documents.sources("nothing here") == set()
            documents.remove("kb", "was never there")
            return [first, second]

    async with running(settings):
        first, second = await asyncio.to_thread(work)
    assert first.counts == {"added": 3, "failed": 2}
    assert second.counts == {"unchanged": 2, "failed": 2, "removed": 1}
    broken, large = first.lines()[:2]
    assert broken == "failed: cannot read broken.docx: it is not a valid docx file; open and save it again"
    assert large.startswith("failed: cannot read large.md: the body has 2000 bytes")
