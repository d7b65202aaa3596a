"""pyproject.toml keeps its own rules."""

from tests.house.manifest import stale_exceptions, unexplained_exceptions, unshipped_packages
from tests.house.sources import ROOT, product_files, python_files

TEXT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")

PLANTED = """
[tool.ruff.lint]
select = [
    "E501",
]
ignore = [
    "PLC0415", # a reason
    "PLR2004",
]
[tool.ruff.lint.per-file-ignores]
"tests/**" = [
    "S101",
    "S105", # a reason
]
"serving/gone.py" = ["S101"]
[[tool.mypy.overrides]]
module = "foo.*"
ignore_missing_imports = true
[tool.setuptools]
packages = ["serving"]
"""


def test_every_exception_gives_its_reason() -> None:
    assert unexplained_exceptions("pyproject.toml", TEXT) == []


def test_every_exception_still_applies() -> None:
    assert stale_exceptions(TEXT, python_files()) == []


def test_every_package_is_shipped() -> None:
    assert unshipped_packages(TEXT, product_files()) == []


def test_exceptions_without_a_reason_are_found() -> None:
    found = [finding.split(":")[1] for finding in unexplained_exceptions("x.toml", PLANTED)]
    assert [PLANTED.splitlines()[int(number) - 1].strip() for number in found] == [
        '"PLR2004",',
        '"S101",',
        '"serving/gone.py" = ["S101"]',
        "ignore_missing_imports = true",
    ]


def test_stale_exceptions_are_found() -> None:
    assert len(stale_exceptions(PLANTED, ["tests/house/test_x.py", "serving/app.py"])) == 1
    assert len(stale_exceptions(PLANTED, ["tests/test_x.py"])) == 1
    assert len(stale_exceptions(PLANTED, ["serving/gone.py"])) == 1


def test_unshipped_packages_are_found() -> None:
    found = unshipped_packages(PLANTED, ["serving/__init__.py", "serving/routes/__init__.py", "serving/app.py"])
    assert found == ["pyproject.toml: add serving.routes to tool.setuptools.packages"]
