"""Gates on the shape of a module: small enough to read in one go, named for what it does, opening with its purpose."""

import ast
from collections.abc import Iterable
from pathlib import PurePosixPath
from statistics import median

MAX_FILE_LINES = 300
MAX_MEDIAN_LINES = 120
MAX_FUNCTION_LINES = 50
_DRAWERS = {"utils", "util", "common", "helpers", "helper", "misc"}


def file_length(path: str, source: str) -> list[str]:
    """Files that nobody reads to the end."""
    lines = len(source.splitlines())
    if lines <= MAX_FILE_LINES:
        return []
    return [f"{path}:1: {lines} lines, at most {MAX_FILE_LINES}; split it by concern"]


def median_length(sources: Iterable[str]) -> float:
    """Median of lines per file."""
    return median(len(source.splitlines()) for source in sources)


def function_length(path: str, source: str) -> list[str]:
    """Functions longer than a screen."""
    return [
        f"{path}:{node.lineno}: {node.name} has {lines} lines, at most {MAX_FUNCTION_LINES}; split it"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (lines := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]


def module_name(path: str, source: str) -> list[str]:
    """Names that say nothing."""
    del source
    where = PurePosixPath(path)
    return [
        f"{path}:1: no {name} module; name it for what it does"
        for name in (*where.parent.parts, where.stem)
        if name in _DRAWERS
    ]


def module_docstring(path: str, source: str) -> list[str]:
    """Modules that do not say what they are for."""
    if ast.get_docstring(ast.parse(source)):
        return []
    return [f"{path}:1: open with a docstring that says what the module is for and why"]
