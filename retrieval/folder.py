"""Files on disk for ingestion: which of them are documents, and their bytes. What is odd about one is said by name."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from retrieval.documents import SUPPORTED
from retrieval.errors import UnreadableDocument


@dataclass(frozen=True, slots=True)
class Listing:
    """`files` are (source, path), sorted by source. `refused` says why others of a supported type are left out;
    `unsupported` counts by suffix those of no supported type."""

    files: tuple[tuple[str, Path], ...]
    refused: tuple[UnreadableDocument, ...]
    unsupported: Mapping[str, int]


def walk(path: Path) -> Listing:
    """A file, or what is below a folder. Raises UnreadableDocument if `path` does not exist.

    Hidden files and folders are left out without a word. A file named explicitly is always listed, so that reading it
    can say what is wrong with it.
    """
    if path.is_file():
        return Listing(((path.name, path),), (), {})
    if not path.is_dir():
        raise UnreadableDocument(str(path), "there is no such file or folder; check the path")
    files: list[tuple[str, Path]] = []
    refused: list[UnreadableDocument] = []
    unsupported: Counter[str] = Counter()
    root = path.resolve()
    for source, file in _visible(path):
        if file.suffix.lower() not in SUPPORTED:
            if file.is_file():
                unsupported[file.suffix.lower() or "no suffix"] += 1
        elif problem := _problem(source, file, root):
            refused.append(UnreadableDocument(source.encode("utf-8", "replace").decode(), problem))
        else:
            files.append((source, file))
    return Listing(tuple(sorted(files)), tuple(sorted(refused, key=str)), unsupported)


def read(source: str, file: Path, limit: int) -> bytes:
    """At most `limit` bytes. Raises UnreadableDocument."""
    try:
        with file.open("rb") as content:
            size = os.fstat(content.fileno()).st_size
            if size > limit:
                raise UnreadableDocument(source, f"it has {size} bytes, the limit is {limit}; split it")
            data = content.read(limit + 1)
    except FileNotFoundError:
        raise UnreadableDocument(source, "it was deleted before it was read; ingest again if it comes back") from None
    except OSError as error:
        raise UnreadableDocument(source, f"{error.strerror}; check the file and its permissions") from None
    if len(data) > limit:
        raise UnreadableDocument(source, f"it is growing beyond the limit of {limit} bytes; wait for it, or split it")
    return data


def _visible(path: Path) -> Iterator[tuple[str, Path]]:
    for folder, folders, names in os.walk(path):  # does not follow links to folders
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            if not name.startswith("."):
                file = Path(folder, name)
                yield file.relative_to(path).as_posix(), file


def _problem(source: str, file: Path, root: Path) -> str | None:
    if not source.isprintable():  # bytes that are not UTF-8, too
        return "its name has characters that cannot be printed; rename it"
    if file.is_symlink():
        if not file.exists():
            return "it is a link to nothing; remove it"
        if not file.resolve().is_relative_to(root):
            return "it is a link out of the folder; copy the file here if it belongs here"
    return None if file.is_file() else "it is no regular file; remove it"
