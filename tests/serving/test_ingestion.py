"""Bringing a knowledge base up to date with a folder that changes."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from retrieval.errors import UnreadableDocument
from serving.access import File, RemoteError
from serving.ingestion import Ingestion
from tests.serving.shelf import Shelf, job, quiet


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "docs"
    (root / "sub").mkdir(parents=True)
    for name in ("a.md", "b.md", "sub/c.md"):
        (root / name).write_text(name)
    return root


def test_a_pass_and_the_next(shelf: Shelf, folder: Path) -> None:
    ingestion = Ingestion(job(folder), shelf, quiet())
    assert ingestion.run().counts == {"added": 3}
    assert ingestion.run().counts == {}
    (folder / "a.md").write_text("changed")
    (folder / "sub" / "c.md").unlink()
    assert ingestion.run().counts == {"updated": 1, "removed": 1}
    assert shelf.held == {"a.md": b"changed", "b.md": b"b.md"}
    assert Ingestion(job(folder), shelf, quiet()).run().counts == {"unchanged": 2}


def test_failures_are_told_by_file_and_cost_only_themselves(shelf: Shelf, folder: Path) -> None:
    (folder / "bad.md").write_text("bad")
    (folder / "large.md").write_text("x" * 1001)
    (folder / "link.md").symlink_to("/etc/hostname")
    (folder / "photo.jpg").touch()
    done = Ingestion(job(folder), shelf, quiet()).run()
    assert done.counts == {"added": 3, "failed": 3}
    *lines, unsupported, counts = done.lines()
    assert [line.split(": ")[1] for line in lines] == [
        "cannot read link.md",
        "cannot read bad.md",
        "cannot read large.md",
    ]
    assert unsupported.endswith("not supported: 1 .jpg")
    assert counts.startswith("3 added, 3 failed in ") and "documents/s" in counts


def test_an_unreadable_new_version_keeps_the_old_document(shelf: Shelf, folder: Path) -> None:
    Ingestion(job(folder), shelf, quiet()).run()
    (folder / "a.md").write_text("bad")
    assert Ingestion(job(folder, delete=True), shelf, quiet()).run().counts == {"unchanged": 2, "failed": 1}
    assert shelf.held["a.md"] == b"a.md"


def test_without_delete_a_missing_file_keeps_its_document(shelf: Shelf, folder: Path) -> None:
    shelf.held["gone.md"] = b"gone"
    Ingestion(job(folder), shelf, quiet()).run()
    assert "gone.md" in shelf.held
    assert Ingestion(job(folder, delete=True), shelf, quiet()).run().counts == {"unchanged": 3, "removed": 1}
    assert sorted(shelf.held) == ["a.md", "b.md", "sub/c.md"]


def test_an_empty_folder_deletes_nothing(shelf: Shelf, tmp_path: Path) -> None:
    shelf.held["a.md"] = b"a"
    with pytest.raises(UnreadableDocument, match="not mounted"):
        Ingestion(job(tmp_path, delete=True), shelf, quiet()).run()
    assert shelf.held


def test_a_file_deleted_during_the_pass_is_told(folder: Path) -> None:
    class Deleting(Shelf):
        def put(self, knowledge: str, files: Sequence[File], groups: Sequence[str]) -> list[str | UnreadableDocument]:
            (folder / "z.md").unlink(missing_ok=True)
            return super().put(knowledge, files, groups)

    for number in range(300):
        (folder / f"d{number}.md").write_text("more than are stored at once")
    (folder / "z.md").write_text("the last")
    done = Ingestion(job(folder), Deleting(), quiet()).run()
    assert done.counts == {"added": 303, "failed": 1}
    assert "z.md: it was deleted before it was read" in done.lines()[0]


def test_a_pass_that_breaks_off_is_continued(shelf: Shelf, folder: Path) -> None:
    ingestion = Ingestion(job(folder), shelf, quiet())
    shelf.closed = True
    with pytest.raises(RemoteError):
        ingestion.run()
    shelf.closed = False
    assert ingestion.run().counts == {"added": 3}


@pytest.fixture
def watching(shelf: Shelf, folder: Path) -> Iterator[Callable[[Callable[[], bool]], float]]:
    """While the folder is watched: waits until something holds, and returns how many seconds it took."""
    stop = threading.Event()
    watcher = threading.Thread(target=Ingestion(job(folder), shelf, quiet()).watch, args=[stop])
    watcher.start()

    def wait(holds: Callable[[], bool]) -> float:
        started = time.monotonic()
        while not holds():
            assert time.monotonic() - started < 15
            time.sleep(0.01)
        return time.monotonic() - started

    wait(lambda: len(shelf.held) == 3)
    yield wait
    stop.set()
    watcher.join()


def test_watching_follows_changes(shelf: Shelf, folder: Path, watching: Callable[[Callable[[], bool]], float]) -> None:
    (folder / "a.md").write_text("changed")
    watching(lambda: shelf.held["a.md"] == b"changed")
    (folder / "new").mkdir()
    (folder / "new" / "d.md").write_text("new")
    watching(lambda: "new/d.md" in shelf.held)
    (folder / "new").rename(folder / "moved")
    watching(lambda: "moved/d.md" in shelf.held and "new/d.md" not in shelf.held)
    (folder / "b.md").unlink()
    watching(lambda: "b.md" not in shelf.held)


def test_watching_outlives_the_gateway(
    shelf: Shelf, folder: Path, watching: Callable[[Callable[[], bool]], float]
) -> None:
    shelf.closed = True
    (folder / "a.md").write_text("changed")
    time.sleep(1.5)
    shelf.closed = False
    watching(lambda: shelf.held["a.md"] == b"changed")
