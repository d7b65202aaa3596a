"""Gates on candour: nothing patched, skipped or silenced without its reason, nothing of one machine in the files."""

import ast
import re
import tokenize
from collections.abc import Iterator
from io import StringIO

_PATCHERS = {"setattr", "delattr", "setitem", "delitem"}
_SKIPS = {"skip", "skipif", "xfail"}
_SILENCED = re.compile(r"#\s*(type:\s*ignore|noqa|ruff:|mypy:|pyright:)")
_REASONED = re.compile(r"# (type: ignore\[[\w, -]+\]|noqa: [A-Z]+\d+(, [A-Z]+\d+)*)  # \S+ .*\S")
_MACHINE = re.compile(r"(?<![\w.])/(home/\w[\w.-]*|Users/\w+|root|work)/|[A-Z]:\\+Users")
_REGISTRY = re.compile(
    r"pypi\.org|pythonhosted\.org|npmjs\.(?:org|com)|anaconda\.(?:org|com)|download\.pytorch\.org|wheels\.vllm\.ai"
    r"|crates\.io|rubygems\.org|(?:index-url|index_url|find-links)\W{1,4}https?://",
    re.IGNORECASE,
)


# What they are for is to change the program that loads them.
_PLUGINS = ("serving/engine/wait_plugin.py",)


def patching(path: str, source: str) -> list[str]:
    """Code replaced behind its back: a fake is a peer behind the same Protocol, handed in."""
    if path in _PLUGINS:
        return []
    tree = ast.parse(source)
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    return [
        f"{path}:{line}: {what}; hand in a peer behind the same Protocol instead (setenv and chdir are fine)"
        for node in ast.walk(tree)
        for line, what in _patches(node, imported)
    ]


def _patches(node: ast.AST, imported: set[str]) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Import(names=names) if any(alias.name.startswith(("unittest.mock", "mock")) for alias in names):
            yield node.lineno, "mock is imported"
        case ast.ImportFrom(module="unittest.mock" | "mock" | "pytest_mock"):
            yield node.lineno, "mock is imported"
        case ast.ImportFrom(module="unittest", names=names) if any(alias.name == "mock" for alias in names):
            yield node.lineno, "mock is imported"
        case ast.arg(arg="mocker"):
            yield node.lineno, "mocker is used"
        case ast.Attribute(attr=name) if name in _PATCHERS:
            yield node.lineno, f"{name} replaces code"
        case ast.Attribute(value=ast.Name(id=name), attr=attribute, ctx=ast.Store() | ast.Del()) if name in imported:
            yield node.lineno, f"{name}.{attribute} is replaced"
        case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[ast.Name(id=name), *_]) if name in imported:
            yield node.lineno, f"{name} is changed by setattr"


def skipping(path: str, source: str) -> list[str]:
    """Tests left out, or expected to fail, without a word why."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = {node.func: node for node in nodes if isinstance(node, ast.Call)}
    return [
        f"{path}:{node.lineno}: say why: reason='...'"
        for node in nodes
        if isinstance(node, ast.Attribute) and _is_skip(node)
        if node not in calls or not _has_reason(calls[node])
    ]


def _is_skip(node: ast.Attribute) -> bool:
    match node.value:
        case ast.Name(id="pytest") | ast.Attribute(attr="mark"):
            return node.attr in _SKIPS
    return False


def _has_reason(call: ast.Call) -> bool:
    given = [keyword.value for keyword in call.keywords if keyword.arg == "reason"]
    # pytest.skip and pytest.xfail take it first; the marks that have a condition take that first.
    if isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        given += call.args[:1]
    return any(not (isinstance(value, ast.Constant) and not value.value) for value in given)


def silencing(path: str, source: str) -> list[str]:
    """A check silenced without its code and a reason. Whole files are excused in pyproject.toml, with a reason."""
    comments = [
        token for token in tokenize.generate_tokens(StringIO(source).readline) if token.type == tokenize.COMMENT
    ]
    return [
        f"{path}:{token.start[0]}: write `# type: ignore[code]  # the reason` (or `# noqa: CODE  # the reason`)"
        for token in comments
        if _SILENCED.search(token.string) and not _REASONED.fullmatch(token.string)
    ]


def machine_paths(path: str, text: str) -> list[str]:
    """Absolute paths that exist on one machine only."""
    return _lines_with(_MACHINE, path, text, "a path of one machine; make it relative or a setting")


def registry_hosts(path: str, text: str) -> list[str]:
    """Hosts that packages come from: every site has its own, set outside the repository."""
    return _lines_with(_REGISTRY, path, text, "a package registry; leave the choice to the site's own configuration")


def _lines_with(pattern: re.Pattern[str], path: str, text: str, what: str) -> list[str]:
    return [
        f"{path}:{number}: {found.group()!r} is {what}"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := pattern.search(line))
    ]
