"""The measurement of the ledger: real rows in real databases, few of them."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.errors import ResultsError
from benchmarks.ledger_size import main, measure
from tests.servers import Cluster

QUIET = Console(quiet=True)


def test_sqlite_grows_by_about_as_much_for_each_request(tmp_path: Path) -> None:
    sizes = [measure(tmp_path / str(count), None, count, 100, QUIET) for count in (1000, 3000)]
    assert 300 < sizes[0].bytes_per_request < 4000
    assert sizes[1].bytes_per_request == pytest.approx(sizes[0].bytes_per_request, rel=0.6)
    assert sizes[0].rows_per_s > 0


def test_postgresql_and_the_file(tmp_path: Path, postgres: Cluster) -> None:
    postgres.empty()
    main(["--requests", "600", "--database-url", postgres.url(), "--out", str(tmp_path / "ledger.json")])
    held = json.loads((tmp_path / "ledger.json").read_text())
    (count,) = postgres.run_sql("SELECT COUNT(*) FROM breakeven_ledger.requests")[0]
    assert count == 600
    assert held["postgresql"]["bytes_per_request"] > 300
    assert held["postgresql"]["log_bytes_per_request"] > held["postgresql"]["bytes_per_request"] / 2
    assert "only-for-tests" not in json.dumps(held)


def test_a_database_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be written"):
        measure(tmp_path, "postgresql://breakeven@127.0.0.1:1/none", 10, 10, QUIET)
