"""Gates on what a module reaches for: imports inside functions, and the environment."""

import ast
from collections.abc import Iterator

from tests.house.sources import in_product

# Seconds to import, or needed by one command only.
HEAVY = (
    *("torch", "vllm", "trl", "peft", "transformers", "sentence_transformers", "adapters.training", "adapters.loading"),
    *("matplotlib", "benchmarks.advice.plot", "benchmarks.economics.plot", "benchmarks.report.content"),
    *(
        "benchmarks.report.page",
        "serving.accounting.ledger.postgres",
        "serving.budgets.shared",
        "serving.database.postgres",
    ),
    *("chromadb", "psycopg", "psycopg_pool", "onnxruntime"),  # tens of MiB that few gateways need
    "serving.engine.cpu_norms",  # vLLM's side of the plugin
    # What a gateway without documents, adapters, schemas or scrapes does without.
    *("serving.shelving", "serving.rollout.schemas", "benchmarks.economics.live", "adapters.tensors"),
    "huggingface_hub",
)
_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def local_imports(path: str, source: str) -> list[str]:
    """Function-local imports of anything but the heavy libraries."""
    return [
        f"{path}:{line}: import {module} at the top of the file; only {', '.join(HEAVY)} may be local"
        for function in ast.walk(ast.parse(source))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in _own_nodes(function)
        for line, module in _imported(node)
        if not any(module == heavy or module.startswith(f"{heavy}.") for heavy in HEAVY)
    ]


def environment(path: str, source: str) -> list[str]:
    """Reads of the environment outside serving/settings.py."""
    if not in_product(path) or path == "serving/settings.py":
        return []
    return [
        f"{path}:{line}: read the environment in serving/settings.py only; make it a setting"
        for line in sorted({line for node in ast.walk(ast.parse(source)) for line in _environment_lines(node)})
    ]


def environment_at_import(path: str, source: str) -> list[str]:
    """Reads of the environment while a module is imported: too early for a test or a command to choose."""
    return [
        f"{path}:{line}: read the environment inside a function, not while the module is imported"
        for line in sorted({line for node in _import_time(ast.parse(source)) for line in _environment_lines(node)})
    ]


def _imported(node: ast.AST) -> Iterator[tuple[int, str]]:
    match node:
        case ast.Import(names=names):
            yield from ((node.lineno, alias.name) for alias in names)
        case ast.ImportFrom(module=str(module)):
            yield node.lineno, module


def _environment_lines(node: ast.AST) -> Iterator[int]:
    match node:
        case ast.Attribute(attr=name) if name in _ENVIRONMENT:
            yield node.lineno
        case ast.ImportFrom(module="os", names=names) if any(alias.name in _ENVIRONMENT for alias in names):
            yield node.lineno
        case ast.Call(keywords=keywords):  # typer reads it for an option that names a variable
            yield from (keyword.value.lineno for keyword in keywords if keyword.arg == "envvar")


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """What is in a function but not in a function inside it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, _Function):
            yield child
            yield from _own_nodes(child)


def _import_time(node: ast.AST) -> Iterator[ast.AST]:
    """What runs at import: everything but the bodies of functions; their defaults and decorators do run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(node, _Function) and child not in _evaluated_early(node):
            continue
        yield child
        yield from _import_time(child)


def _evaluated_early(function: _Function) -> list[ast.AST]:
    return [function.args, *getattr(function, "decorator_list", [])]
