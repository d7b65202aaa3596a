"""The benchmark's own load side: client and upstream against each other, and the table from raw results."""

import io
import socket
import sys
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.errors import BenchmarkError
from benchmarks.gateway.load import STREAMS_1, STREAMS_64, STREAMS_200, WHOLE_1, WHOLE_64, Load, Side
from benchmarks.gateway.peers import CHAT
from benchmarks.gateway.processes import started, until_answered, usage
from benchmarks.gateway.table import cpu_us, table


def test_client_and_upstream_agree(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    side = Side(tmp_path, 0, native=False)
    with started(side.upstream(port), 0, tmp_path / "log") as pid:
        until_answered(f"http://127.0.0.1:{port}/v1/models", "", pid, tmp_path / "log")
        whole = side.run(Load("x", 4, 0.5), "key", port, CHAT)
        streamed = side.run(Load("x", 2, 1, True, 5, 10), "key", port, CHAT)
        assert usage(pid).cpu_s > 0
        assert usage(pid).rss_mb > 1
    for seen in (whole, streamed):
        assert (seen["bad"], seen["non200"]) == (0, 0)
        assert seen["reqs"] > 0
        assert seen["p50_us"] > 0
    assert streamed["chunks"] >= streamed["reqs"] * 5
    assert streamed["ttft_p50"] >= 10_000  # the first chunk comes after one pace
    assert streamed["one_p50"] > 0


def test_a_process_that_ends_at_once_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no such gateway')"]
    with (
        started(command, 0, tmp_path / "log") as pid,
        pytest.raises(BenchmarkError, match="no such gateway"),
    ):
        until_answered("http://127.0.0.1:9/", "", pid, tmp_path / "log")


def _run(load: Load, cpu_s: float, latency_us: float) -> dict[str, object]:
    shape = {"name": load.name, "stream": load.stream}
    found = {"secs": 2.0, "reqs": 1000, "chunks": 4000, "bad": 0, "non200": 0, "err": 0}
    times = {"p50_us": latency_us, "ttft_p50": latency_us, "ttft_p99": latency_us}
    return {"load": shape, **found, **times, "cpu_s": cpu_s}


def test_the_table_is_made_of_cpu_over_requests_and_of_differences_to_direct() -> None:
    loads = (WHOLE_64, WHOLE_1, STREAMS_64, STREAMS_1, STREAMS_200)
    direct = {"name": "direct", "loads": [_run(load, 0, 1000) for load in loads]}
    ours = {"name": "ours", "rss_warm_mb": 50.0, "loads": [_run(load, 0.125, 1500) for load in loads]}
    broken = {"name": "broken", "failed": "it does not start"}
    assert cpu_us(_run(WHOLE_64, 0.125, 0)) == pytest.approx(100)  # 1,000 in 2 s are 1,250 with half a second before
    assert cpu_us(_run(STREAMS_64, 0.125, 0)) == pytest.approx(25)
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(table([direct, ours, broken]))
    rows = console.export_text().splitlines()
    (row,) = (line for line in rows if "ours" in line)
    cells = [cell.strip() for cell in row.strip("│┃ ").split("│")]
    assert cells == ["ours", "100.0", "500", "0.50", "25.0", "0.50", "0.50", "0.50", "50", "0"]
    assert any("it does not start" in line for line in rows)
