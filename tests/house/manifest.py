"""Gates on pyproject.toml: every exception gives its reason and still applies, and every package is shipped."""

import re
import tomllib
from collections.abc import Iterable
from pathlib import PurePosixPath

_EXCEPTION = re.compile(r'^\s*"[A-Z]+\d*"|^(disallow|strict|ignore|disable|warn)_?\w* = (false|true)|= \["[A-Z]+\d+')
_TABLES = ("[tool.ruff.lint.per-file-ignores]", "[[tool.mypy.overrides]]")


def unexplained_exceptions(path: str, text: str) -> list[str]:
    """Lines that switch a rule off without a comment."""
    findings, table, ignoring = [], "", False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            table = line.strip()
        ignoring = line.startswith("ignore = [") or (ignoring and line != "]")
        if (table in _TABLES or ignoring) and _EXCEPTION.search(line) and "#" not in line:
            findings.append(f"{path}:{number}: say after # why this rule is off")
    return findings


def stale_exceptions(text: str, files: Iterable[str]) -> list[str]:
    """Patterns of per-file-ignores that match no file any more."""
    paths = [PurePosixPath(file) for file in files]
    patterns = tomllib.loads(text)["tool"]["ruff"]["lint"]["per-file-ignores"]
    return [
        f"pyproject.toml: per-file-ignores of {pattern} match no file; delete the entry"
        for pattern in patterns
        if not any(path.match(pattern.replace("/**", "/*/*")) or path.match(pattern) for path in paths)
    ]


def unshipped_packages(text: str, files: Iterable[str]) -> list[str]:
    """Packages of the product that the wheel would leave out."""
    listed = set(tomllib.loads(text)["tool"]["setuptools"]["packages"])
    found = {str(PurePosixPath(file).parent).replace("/", ".") for file in files if file.endswith("/__init__.py")}
    return [f"pyproject.toml: add {package} to tool.setuptools.packages" for package in sorted(found - listed)]
