"""The meter in a gateway that is a process of its own: killed in the middle, started again, asked, exported."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
import typer
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner, Result

from breakeven.main import command_line
from serving.accounting.ledger.sqlite import SqliteDatabase
from serving.accounting.ledger.statement import Statement, statement
from tests.serving.books import Clock, Process

ROOT = Path(__file__).parents[2]
ALWAYS = (0.0, 1e12)
GATEWAY = """
import asyncio, json, logging, sys
from pathlib import Path
from benchmarks.economics.live import LiveEconomics, Terms
from benchmarks.prices import load_prices
from tests.serving.gateways import running, settings_for

logging.basicConfig(level=logging.WARNING)
sections = json.loads(sys.argv[2])

def economist(machine, accelerators):
    return LiveEconomics(load_prices(), Terms(machine, accelerators, ["gpt-4o-mini", "gpt-4o"], {"fte": 0}, None))

async def main():
    async with running(settings_for(Path(sys.argv[1]), **sections), economist) as stack:
        print(stack.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)  # until the test lets go

asyncio.run(main())
"""


class Gateway:
    """A process, and what it said when it started."""

    def __init__(self, home: Path, sections: Mapping[str, Any]) -> None:
        self.log = home.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", GATEWAY, str(home), json.dumps(sections)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url, self.log.read_text()

    def ask(self, model: str = "plain", question: str = "hello", stream: bool = False) -> httpx.Response:
        body = {"model": model, "messages": [{"role": "user", "content": question}], "stream": stream}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=60)

    def metrics(self) -> dict[str, float]:
        """Sums of each family by its sample's name."""
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(httpx.get(f"{self.url}/metrics").text):
            for sample in family.samples:
                found[sample.name] = found.get(sample.name, 0.0) + sample.value
        return found

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)


@contextmanager
def gateway(home: Path, **sections: Any) -> Iterator[Gateway]:
    found = Gateway(home, sections)
    try:
        yield found
    finally:
        if found.process.poll() is None:
            found.kill()


def breakeven(home: Path, *arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    app: typer.Typer = command_line(words)
    return CliRunner(env={"BREAKEVEN_HOME": str(home), "COLUMNS": "100"}).invoke(app, words)


def check(found: Statement) -> None:
    assert abs(found.difference_usd) <= abs(found.billed_usd) / 1000 + Decimal("1e-8"), found
    assert found.billed_s == pytest.approx(found.busy_s + found.host_s + found.idle_s + found.down_s, rel=1e-3)


@pytest.mark.slow
def test_windows_add_up_through_kill_and_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    slow = {"engine": {"simulated_ttft_s": 0.05, "simulated_itl_s": 0.2, "simulated_tokens": 200}}
    edges = [0.0]
    with gateway(home, **slow) as first:
        hanging = threading.Thread(target=lambda: _ignore(first.ask, stream=True))
        hanging.start()
        body = {"model": "plain", "messages": [{"role": "user", "content": "x"}], "max_tokens": 2}
        for _ in range(10):
            assert httpx.post(f"{first.url}/v1/chat/completions", json=body, timeout=60).status_code == 200
        # Nothing in the books is about this: it abstains, and pays for its search while the engine is idle only.
        assert first.ask("books", "qqq zzz").json()["breakeven"]["abstained"]
        edges.append(time.time())
        time.sleep(1.2)
        killed = time.time()
        first.kill()
        hanging.join()
    with gateway(home) as second:
        assert "was killed: 1 requests that ran" in second.log.read_text()
        edges.append(time.time())
        for stream in (False, True) * 5:
            second.ask(stream=stream)
        metrics = second.metrics()
        assert metrics["breakeven_stage_cost_usd_total"] == pytest.approx(
            metrics["breakeven_tenant_cost_usd_total"] - _usage(second, "breakeven_tenant_cost_usd_total"), rel=1e-6
        )
        second.stop()
    ledger = SqliteDatabase(home / "ledger.db")
    whole = statement(ledger, *ALWAYS)
    check(whole)
    assert whole.requests == 21
    assert whole.lost_usd > 0
    assert float(whole.in_progress_usd) == pytest.approx(0, abs=1e-7)
    # At most a second of the first life is missing; a busy test machine is granted two more.
    runs = ledger.rows("SELECT started_at, seen_at, billed_s, ending FROM runs ORDER BY started_at")
    (began, seen, billed, _), down, (_, last, *_) = runs
    assert killed - 3.0 <= seen <= killed + 0.5
    assert billed == pytest.approx(seen - began, abs=0.1)
    # And no second is between the two lives: the machine was paid for while the gateway restarted.
    assert down[3] == "down"
    assert whole.down_s == pytest.approx(down[2])
    assert whole.billed_s == pytest.approx(last - began, abs=1.0)  # a busy machine looks at its clocks late
    edges += [edges[1] + 0.3, 1e12]
    parts = [statement(ledger, since, until) for since, until in zip(sorted(edges), sorted(edges)[1:], strict=False)]
    for part in parts:
        check(part)
    assert float(sum(part.billed_usd for part in parts)) == pytest.approx(float(whole.billed_usd), rel=1e-6)


def _usage(found: Gateway, name: str) -> float:
    families = text_string_to_metric_families(httpx.get(f"{found.url}/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if sample.labels["basis"] == "usage")


def _ignore(ask: Any, **arguments: Any) -> None:
    with pytest.raises(httpx.HTTPError):
        ask(**arguments)


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose gateway was up for five minutes an hour ago."""
    home = tmp_path_factory.mktemp("past") / "home"
    process = Process(SqliteDatabase(home / "ledger.db"), day=Clock(time.time() - 3600))
    for _ in range(60):
        process.ask(4.0, tenant='=HYPERLINK("http://x")')
        process.wait(1.0)
        process.written()
    process.sink.close()
    return home


def test_economics_over_http_in_the_terminal_and_as_gauges(past: Path) -> None:
    with gateway(past) as found:
        answer = httpx.get(f"{found.url}/v1/breakeven/economics?window=2h").json()
        assert answer["status"] == "simulated"
        assert [each["model"] for each in answer["hosted"]] == ["gpt-4o-mini", "gpt-4o"]
        assert float(answer["measured"]["effective_utilisation"]["value"]) == pytest.approx(0.8, abs=0.05)
        assert answer["measured"]["usd_per_query"]["kind"] == "simulated"
        for wrong in ("1x", "0h", "400d", "", "-5m", "9" * 30):
            assert httpx.get(f"{found.url}/v1/breakeven/economics", params={"window": wrong}).status_code == 400
        early = httpx.get(f"{found.url}/v1/breakeven/economics?window=1m").json()
        assert early["status"] == "not yet measured" and early["hosted"] == []
        frame = breakeven(past, "top", "--once", "--url", found.url, "--window", "2h")
        assert frame.exit_code == 0, frame.output
        assert "gpt-4o-mini" in frame.stdout and "effective utilisation" in frame.stdout
        metrics, deadline = found.metrics(), time.monotonic() + 20
        assert "breakeven_economics_measured" not in metrics  # nobody had asked before
        while "breakeven_economics_measured" not in metrics and time.monotonic() < deadline:
            metrics = found.metrics()
        assert metrics["breakeven_economics_measured"] == 1
        assert metrics["breakeven_break_even_queries_per_month"] > 0
        assert len([name for name in metrics if name.startswith("breakeven_payback")]) == 1
        found.stop()


def test_only_operators_see_what_all_tenants_cost(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    key = breakeven(home, "keys", "create", "--role", "user").stdout.strip().splitlines()[-1]
    with gateway(home) as found:
        url = f"{found.url}/v1/breakeven/economics"
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"authorization": f"Bearer {key}"}).status_code == 403


def test_exports_add_up_to_the_bill(past: Path, tmp_path: Path) -> None:
    billed = float(statement(SqliteDatabase(past / "ledger.db"), *ALWAYS).billed_usd)
    done = breakeven(past, "ledger", "export")
    assert done.exit_code == 0, done.output
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert sum(float(row["allocation_usd"]) for row in rows) == pytest.approx(billed, rel=1e-3)
    stages = [name for name in rows[0] if name.endswith("_usd") and name not in ("allocation_usd", "usage_usd")]
    assert sum(float(row[name]) for row in rows for name in stages) == pytest.approx(billed, rel=1e-3)
    assert rows[0]["tenant"].startswith("'=HYPERLINK"), "a spreadsheet would run it"
    assert breakeven(past, "ledger", "export", "--format", "parquet", "--to", tmp_path / "x.parquet").exit_code == 0
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.num_rows == len(rows)
    assert float(sum(table["allocation_usd"].to_pylist())) == pytest.approx(billed, rel=1e-3)
    assert breakeven(past, "ledger", "export", "--format", "parquet").exit_code == 1
    assert breakeven(past, "ledger", "export", "--since", "yesterday").exit_code == 1
    assert breakeven(tmp_path, "ledger", "export").exit_code == 1
