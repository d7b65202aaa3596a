"""The files that the gates look at: all that git tracks or would track, so that a file is checked before its commit."""

import subprocess
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("breakeven", "serving", "retrieval", "adapters", "benchmarks")

# A gate takes a path relative to the repository and its text, and gives findings as `path:line: what to change`.
Gate = Callable[[str, str], list[str]]


@cache
def text_files() -> Mapping[str, str]:
    """Path -> text of every text file of the repository."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607  # git is where PATH says
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: dict[str, str] = {}
    for path in sorted(filter(None, listing.split("\0"))):
        try:
            found[path] = (ROOT / path).read_text(encoding="utf-8")
        except (UnicodeDecodeError, FileNotFoundError):  # binary, or deleted and not yet committed
            continue
    return found


def python_files() -> Mapping[str, str]:
    """Path -> source of every Python file, tests included."""
    return {path: source for path, source in text_files().items() if path.endswith(".py")}


def product_files() -> Mapping[str, str]:
    """Path -> source of the packages."""
    return {path: source for path, source in python_files().items() if in_product(path)}


def in_product(path: str) -> bool:
    """Whether `path` is ours and not a test."""
    return path.partition("/")[0] in PACKAGES
