"""Every gate over every file it concerns; and every gate shown to fail on a planted violation, and on nothing else."""

import pytest

from tests.house.candour import machine_paths, patching, registry_hosts, silencing, skipping
from tests.house.reach import environment, environment_at_import, local_imports
from tests.house.shape import (
    MAX_MEDIAN_LINES,
    file_length,
    function_length,
    median_length,
    module_docstring,
    module_name,
)
from tests.house.sources import Gate, python_files, text_files

PYTHON_GATES: tuple[Gate, ...] = (
    file_length,
    function_length,
    module_name,
    module_docstring,
    local_imports,
    environment,
    environment_at_import,
    patching,
    skipping,
    silencing,
)
TEXT_GATES: tuple[Gate, ...] = (machine_paths, registry_hosts)

ANY = "serving/any.py"
SETENV = "def test_x(monkeypatch):\n    monkeypatch.{}"

VIOLATIONS: tuple[tuple[Gate, str, str], ...] = (
    (file_length, ANY, "x = 1\n" * 301),
    (function_length, ANY, "class A:\n    async def f(self):\n" + "        x = 1\n" * 50),
    (module_name, "serving/utils.py", ""),
    (module_name, "serving/common/cost.py", ""),
    (module_name, "tests/helpers.py", ""),
    (module_docstring, ANY, "x = 1\n'''Too late.'''\n"),
    (local_imports, ANY, "def f():\n    import json\n"),
    (local_imports, ANY, "def f():\n    with a:\n        from serving import openai\n"),
    (local_imports, ANY, "class A:\n    def f(self):\n        from adapters.registry import Registry\n"),
    (environment, ANY, "import os\n\ndef f():\n    return os.environ.get('A')\n"),
    (environment, "breakeven/serve.py", "import os as system\n\ndef f():\n    return system.getenv('A')\n"),
    (environment, ANY, "from os import environ as e\n"),
    (environment, "breakeven/serve.py", "import typer\nx = typer.Option(envvar='A')\n"),
    (environment_at_import, "serving/settings.py", "import os\nX = os.environ['A']\n"),
    (environment_at_import, "tests/test_x.py", "import os\n\ndef f(x=os.getenv('A')):\n    pass\n"),
    (environment_at_import, "tests/test_x.py", "import os\n\nclass A:\n    x = os.getenv('A')\n"),
    (patching, "tests/test_x.py", "from unittest.mock import patch\n"),
    (patching, "tests/test_x.py", "from unittest import mock\n"),
    (patching, "tests/test_x.py", "import unittest.mock\n"),
    (patching, "tests/test_x.py", "def test_x(mocker):\n    pass\n"),
    (patching, "tests/test_x.py", SETENV.format("setattr('serving.app.run', None)")),
    (patching, "tests/test_x.py", SETENV.format("setitem(prices, 'a', 1)")),
    (patching, "tests/test_x.py", "from serving import app\napp.run = None\n"),
    (patching, "tests/test_x.py", "import serving.app\nsetattr(serving, 'app', None)\n"),
    (skipping, "tests/test_x.py", "import pytest\n\n@pytest.mark.skip\ndef test_x():\n    pass\n"),
    (skipping, "tests/test_x.py", "import pytest\n\n@pytest.mark.xfail(strict=True)\ndef test_x():\n    pass\n"),
    (skipping, "tests/test_x.py", "import pytest\n\n@pytest.mark.skipif(True, reason='')\ndef test_x():\n    pass\n"),
    (skipping, "tests/test_x.py", "import pytest\n\ndef test_x():\n    pytest.skip()\n"),
    (silencing, ANY, "x = f()  # type: ignore\n"),
    (silencing, ANY, "x = f()  # type: ignore[arg-type]\n"),
    (silencing, ANY, "x = f()  # noqa\n"),
    (silencing, ANY, "x = f()  # noqa: S101\n"),
    (silencing, ANY, "# mypy: ignore-errors\n"),
    (silencing, ANY, "# ruff: noqa: S101\n"),
    (machine_paths, "README.md", "cd /ho" + "me/ann/breakeven\n"),
    (machine_paths, "k8s/base.yaml", "path: '/ro" + "ot/.cache'\n"),
    (machine_paths, ANY, "X = 'C:" + "\\\\Users\\\\ann'\n"),
    (registry_hosts, "README.md", "https://py" + "pi.org/simple\n"),
    (registry_hosts, "install.sh", "pip install --index" + "-url https://mirror.example/simple x\n"),
)

ALLOWED: tuple[tuple[Gate, str, str], ...] = (
    (file_length, ANY, "x = 1\n" * 300),
    (function_length, ANY, "def f():\n" + "    x = 1\n" * 49),
    (module_name, "serving/accounting/cost.py", ""),
    (module_docstring, ANY, '"""What it is for."""\n'),
    (local_imports, ANY, "import json\n\ndef f():\n    import torch.nn\n    from adapters.training import train\n"),
    (environment, "serving/settings.py", "import os\n\ndef f():\n    return os.environ\n"),
    (environment, "tests/test_x.py", "import os\n\ndef f():\n    return os.environ\n"),
    (environment, ANY, "import os\n\ndef f(environment):\n    return os.getpid()\n"),
    (environment_at_import, "serving/settings.py", "import os\n\ndef f():\n    return os.environ\n"),
    (environment_at_import, ANY, "import os\nf = lambda: os.environ\n"),
    (patching, "tests/test_x.py", SETENV.format("setenv('A', '1')")),
    (
        patching,
        "tests/test_x.py",
        "from serving.engine import simulated\nengine = simulated.Engine()\nengine.url = ''\n",
    ),
    (skipping, "tests/test_x.py", "import pytest\n\ndef test_x():\n    pytest.skip('no GPU here')\n"),
    (skipping, "tests/test_x.py", "import pytest\npytestmark = pytest.mark.skipif(True, reason='no GPU here')\n"),
    (silencing, ANY, "x = f()  # type: ignore[arg-type]  # upstream has no types\n"),
    (silencing, ANY, "x = f()  # noqa: S101, S102  # compared, not bound\n# A word about types: ignore it.\n"),
    (machine_paths, "README.md", "https://example.com/home/ann/ and ./home/ann/x and /var/lib/breakeven\n"),
    (registry_hosts, "README.md", "pip install -e . uses the index that pip is configured with\n"),
)


@pytest.mark.parametrize("gate", PYTHON_GATES, ids=lambda gate: gate.__name__)
def test_python_files_pass(gate: Gate) -> None:
    findings = [finding for path, source in python_files().items() for finding in gate(path, source)]
    assert not findings, "\n".join(["", *findings])


@pytest.mark.parametrize("gate", TEXT_GATES, ids=lambda gate: gate.__name__)
def test_text_files_pass(gate: Gate) -> None:
    findings = [finding for path, text in text_files().items() for finding in gate(path, text)]
    assert not findings, "\n".join(["", *findings])


def test_median_file_is_short() -> None:
    assert median_length(python_files().values()) <= MAX_MEDIAN_LINES


def test_median_counts_lines() -> None:
    assert median_length(["x\n" * 3, "x\n" * 200, "x\n" * 121]) == 121


@pytest.mark.parametrize(("gate", "path", "text"), VIOLATIONS)
def test_gate_finds_the_violation(gate: Gate, path: str, text: str) -> None:
    found = gate(path, text)
    assert len(found) == 1
    assert found[0].startswith(f"{path}:")


@pytest.mark.parametrize(("gate", "path", "text"), ALLOWED)
def test_gate_leaves_the_rest_alone(gate: Gate, path: str, text: str) -> None:
    assert gate(path, text) == []


def test_every_gate_has_a_violation_and_a_counterexample() -> None:
    gates = {*PYTHON_GATES, *TEXT_GATES}
    assert {gate for gate, _, _ in VIOLATIONS} == gates
    assert {gate for gate, _, _ in ALLOWED} == gates
