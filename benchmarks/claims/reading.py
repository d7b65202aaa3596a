"""The data files as one book of claims. What is not written as it must be stops here, with the claim's name."""

from collections.abc import Iterable, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from benchmarks.claims.claim import KINDS, Book, Claim, Document, Expectation, Experiment, Group, Side, Test
from benchmarks.claims.expression import Measured, leaves
from benchmarks.claims.inputs import Reader, number
from benchmarks.errors import BenchmarkError, ClaimError
from benchmarks.prices import PriceBook, load_prices
from benchmarks.prices.quotes import Quote, load_quotes

DATA = Path(__file__).with_name("data")
_CLAIM_KEYS = {"id", "says", "lines", "kind", "tests", "also", "experiments", "untestable", "note", "same_as"}
_TEST_KEYS = {"formula", "inputs", "expect", "cases", "about"}
_EXPECT_KEYS = {"equals", "within", "at_least", "at_most", "above", "below", "said"}

Cases = Mapping[str, Mapping[str, Any]]


def read_book(folder: Path = DATA, prices: PriceBook | None = None, quotes: Mapping[str, Quote] | None = None) -> Book:
    """All claims, with prices filled in. ClaimError names the claim that is wrong, and how."""
    reader = Reader(prices or load_prices(), quotes or load_quotes())
    for name, given in _load(folder / "figures.yaml").items():
        reader.figures[name] = reader.read(given, "")
    case_sets: Mapping[str, Cases] = _load(folder / "cases.yaml")
    rows = [row for path in sorted(folder.glob("claims_*.yaml")) for row in _load(path)]
    claims: dict[str, Claim] = {}
    for row in rows:
        try:
            claim = _claim(row, reader, case_sets, claims)
        except (BenchmarkError, KeyError, TypeError, ValueError) as error:
            raise ClaimError(f"claim {row.get('id')}: {error}") from error
        if claim.id in claims:
            raise ClaimError(f"claim {claim.id} is there twice")
        claims[claim.id] = claim
    sources = _load(folder / "sources.yaml")
    documents = {letter: Document(letter, **given) for letter, given in sources["documents"].items()}
    experiments = {name: Experiment(name, **given) for name, given in sources["experiments"].items()}
    groups = tuple(_group(row) for row in _load(folder / "groups.yaml"))
    return _consistent(Book(documents, experiments, claims, groups))


def _load(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ClaimError(f"cannot read {path.name}: {' '.join(str(error).split())}") from error


def _claim(row: Mapping[str, Any], reader: Reader, case_sets: Mapping[str, Cases], known: Mapping[str, Claim]) -> Claim:
    _refuse(row, _CLAIM_KEYS)
    tests = [_test(one, row["id"][0], reader, case_sets) for one in row.get("tests", [])]
    # Of a claim that others make too, the tests are written once.
    same = [known[other] for other in row.get("same_as", [])]
    experiments = [*row.get("experiments", []), *(name for other in same for name in other.experiments)]
    return Claim(
        id=row["id"],
        says=row["says"],
        lines=str(row["lines"]),
        kind=row["kind"],
        tests=(*tests, *(test for other in same for test in other.tests)),
        also=tuple(_test(one, row["id"][0], reader, case_sets) for one in row.get("also", [])),
        experiments=tuple(dict.fromkeys(experiments)),
        untestable=row.get("untestable", ""),
        note=row.get("note", ""),
    )


def _test(given: Mapping[str, Any], document: str, reader: Reader, case_sets: Mapping[str, Cases]) -> Test:
    _refuse(given, _TEST_KEYS)
    cases = {
        label: reader.call(given["formula"], {**given["inputs"], **overrides}, document)
        for label, overrides in _cases(given.get("cases", {"": {}}), case_sets).items()
    }
    (unit,) = {call.unit for call in cases.values()}
    return Test(cases, unit, _expectation(given.get("expect", {})), given.get("about", ""))


def _cases(given: Any, case_sets: Mapping[str, Cases]) -> Cases:
    """Inline cases, the name of a set, or a list of either: every combination."""
    if isinstance(given, str):
        return case_sets[given]
    if isinstance(given, dict):
        return given
    sets = [_cases(one, case_sets).items() for one in given]
    return {
        ", ".join(label for label, _ in chosen): {name: value for _, case in chosen for name, value in case.items()}
        for chosen in product(*sets)
    }


def _expectation(given: Mapping[str, Any]) -> Expectation:
    _refuse(given, _EXPECT_KEYS)
    said = str(given.get("said", ""))
    if "equals" in given:
        value, within = number(given["equals"]), number(given["within"])
        return Expectation(value - abs(value) * within, value + abs(value) * within, said=said, within=within)
    strict = "above" in given or "below" in given
    low, high = ("above", "below") if strict else ("at_least", "at_most")
    least, most = (number(given[key]) if key in given else None for key in (low, high))
    return Expectation(least, most, strict, said)


def _group(row: Mapping[str, Any]) -> Group:
    _refuse(row, {"id", "question", "unit", "sides"})
    sides = []
    for given in row["sides"]:
        _refuse(given, {"claims", "stance", "low", "high"})
        bounds = (number(given[key]) if key in given else None for key in ("low", "high"))
        sides.append(Side(tuple(given["claims"]), given.get("stance", ""), *bounds))
    return Group(row["id"], row["question"], row.get("unit", ""), tuple(sides))


def _refuse(row: Mapping[str, Any], allowed: Iterable[str]) -> None:
    if unknown := sorted(row.keys() - set(allowed)):
        raise ClaimError(f"unknown key {unknown[0]!r}; it may have {', '.join(sorted(allowed))}")


def _consistent(book: Book) -> Book:
    """Every claim is of a document, can be judged by its kind, and names experiments that exist."""
    for claim in book.claims.values():
        if claim.document not in book.documents or claim.kind not in KINDS:
            raise ClaimError(f"claim {claim.id}: of no document, or of no kind of {', '.join(KINDS)}")
        if bool(claim.tests) != (claim.kind not in ("not_testable", "consistency")):
            raise ClaimError(f"claim {claim.id}: a {claim.kind} claim {'has no' if claim.tests else 'needs'} tests")
        if bool(claim.untestable) != (claim.kind == "not_testable"):
            raise ClaimError(f"claim {claim.id}: untestable gives the reason of a not_testable claim, and of no other")
        calls = [call for test in claim.tests for call in test.cases.values()]
        measured = any(isinstance(leaf, Measured) for call in calls for _, leaf in leaves(call))
        if measured != claim.kind.startswith("measured") or (measured and not claim.experiments):
            raise ClaimError(f"claim {claim.id}: measured inputs, a measured kind and experiments belong together")
        if unknown := [name for name in claim.experiments if name not in book.experiments]:
            raise ClaimError(f"claim {claim.id}: no experiment is called {unknown[0]}")
    named = {claim for group in book.groups for side in group.sides for claim in side.claims}
    if unknown := sorted(named - book.claims.keys()):
        raise ClaimError(f"groups.yaml names {unknown[0]}, which is no claim")
    return book
