"""What a folder holds, and what of it is refused by name instead of lost or followed."""

import os
from pathlib import Path

import pytest

from retrieval.errors import UnreadableDocument
from retrieval.folder import read, walk


def test_it_is_sorted_and_stays_inside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("secret")
    root = tmp_path / "docs"
    for name in ("b.md", "a/z.txt", "a/c.pdf", "a.md", ".hidden.md", ".git/x.md", "picture.png", "p.png", "LICENSE"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")
    (root / "link.md").symlink_to(outside / "secret.md")
    (root / "linked").symlink_to(outside)
    (root / "inside.md").symlink_to(root / "b.md")
    (root / "broken.md").symlink_to(root / "nowhere.md")
    (root / "folder.md").mkdir()
    os.mkfifo(root / "pipe.txt")
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9.md")).write_text("x")
    found = walk(root)
    assert [source for source, _ in found.files] == ["a.md", "a/c.pdf", "a/z.txt", "b.md", "inside.md"]
    assert found.unsupported == {".png": 2, "no suffix": 1}
    reasons = {refused.source: refused.reason for refused in found.refused}
    assert set(reasons) == {"broken.md", "caf?.md", "link.md", "pipe.txt"}
    assert "link out of the folder" in reasons["link.md"]
    assert "link to nothing" in reasons["broken.md"]
    assert "rename it" in reasons["caf?.md"]
    assert "no regular file" in reasons["pipe.txt"]


def test_one_file_is_listed_even_if_unsupported(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(b"x")
    assert walk(file).files == (("a.png", file),)


def test_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableDocument, match="check the path"):
        walk(tmp_path / "nope")


def test_reading(tmp_path: Path) -> None:
    file = tmp_path / "a.md"
    file.write_bytes(b"0123456789")
    assert read("a.md", file, 10) == b"0123456789"
    with pytest.raises(UnreadableDocument, match="10 bytes, the limit is 9"):
        read("a.md", file, 9)
    file.unlink()
    with pytest.raises(UnreadableDocument, match="deleted before it was read"):
        read("a.md", file, 10)
    with pytest.raises(UnreadableDocument, match="Is a directory"):
        read("a.md", tmp_path, 10)


def test_a_file_that_tells_no_size_is_limited_too() -> None:
    with pytest.raises(UnreadableDocument, match="growing beyond"):
        read("zero.txt", Path("/dev/zero"), 1000)
