"""A book of a claim or two in a temporary folder, and results for it."""

import json
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims.claim import Book
from benchmarks.claims.reading import read_book

SOURCES = {
    "documents": {"Z": {"title": "A test", "file": "z.txt", "claims": 1}},
    "experiments": {"X1": {"what": "measure it", "hardware": "cpu", "results": "results/*.json"}},
}


def claim(**changes: Any) -> dict[str, Any]:
    """A claim that holds: 100,000 tokens at $8 per million cost $0.80."""
    test = {
        "formula": "training_usd",
        "inputs": {
            "tokens": {"is": 100_000, "unit": "tokens"},
            "usd_per_mtok": {"is": 8, "unit": "USD/Mtok"},
            "epochs": {"is": 1, "unit": "1", "assumed": "one"},
        },
        "expect": {"equals": "0.8", "within": "0.05"},
    }
    return {"id": "Z01", "says": "It costs something.", "lines": 1, "kind": "calculation", "tests": [test], **changes}


def measured(expect: dict[str, Any], at: str = "scores/all", **changes: Any) -> dict[str, Any]:
    """A claim about a figure in results/*.json."""
    value = {"files": "results/*.json", "at": at, "unit": "share"} | changes
    test = {"formula": "itself", "inputs": {"value": value}, "expect": expect}
    return claim(kind="measured_cpu", experiments=["X1"], tests=[test])


def book(folder: Path, *claims: dict[str, Any], groups: list[dict[str, Any]] | None = None) -> Book:
    """Read back from files, as the shipped ones are."""
    files = {"sources": SOURCES, "figures": {}, "cases": {}, "claims_z": list(claims), "groups": groups or []}
    for name, content in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return read_book(folder)


def result(folder: Path, name: str, content: Any) -> None:
    """A results file."""
    (folder / "results").mkdir(exist_ok=True)
    (folder / "results" / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
