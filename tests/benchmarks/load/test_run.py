"""The load generator against a small OpenAI server that can misbehave, over real sockets on loopback."""

import asyncio
import gzip
import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from benchmarks.errors import BenchmarkError, EndpointError, PlanError
from benchmarks.load.arrivals import Replay
from benchmarks.load.experiment import bench
from benchmarks.load.files import Results, ResultsFile, read_results
from benchmarks.load.plan import Slo
from benchmarks.load.progress import Tally, show
from benchmarks.load.run import run_load
from benchmarks.load.summary import summarise
from benchmarks.origin import Origin
from tests.benchmarks.load.fake_openai import COST, TOKENS, FakeOpenAI, plan


async def test_closed_loop_sends_what_was_asked_and_reuses_connections(server: FakeOpenAI) -> None:
    server.wait_s = 0.01
    result = await run_load(plan(server, requests=11, concurrency=3))
    assert sorted(row.index for row in result.rows) == list(range(11))
    assert {row.outcome for row in result.rows} == {"answered"}
    assert server.most == 3
    assert len(server.connections) == 3
    assert len({body["messages"][0]["content"] for body in server.bodies}) == 11


async def test_closed_loop_stops_starting_at_its_duration(server: FakeOpenAI) -> None:
    server.wait_s = 0.02
    result = await run_load(plan(server, duration_s=0.2, concurrency=2))
    assert all(row.scheduled_s < 0.2 for row in result.rows)
    assert 4 <= len(result.rows) <= 20


async def test_open_loop_is_not_slowed_by_slow_answers(server: FakeOpenAI) -> None:
    """Twenty answers of 0.4 s each at 100 a second: eight seconds' work, under way at once."""
    server.wait_s = 0.4
    began = time.perf_counter()
    result = await run_load(plan(server, rate=100.0, requests=20, seed=3))
    assert time.perf_counter() - began < 2.0
    assert len(result.rows) == 20
    assert server.most > 10
    assert max(row.sent_s - row.scheduled_s for row in result.rows) < 0.2


@pytest.mark.parametrize("load", [{"concurrency": 150}, {"rate": 3000.0}])
async def test_the_connection_pool_holds_nothing_back(server: FakeOpenAI, load: dict[str, Any]) -> None:
    """aiohttp's default pool of 100 would cap what is in flight."""
    server.wait_s = 0.6
    await run_load(plan(server, requests=150, **load))
    assert server.most == 150


async def test_open_loop_repeats_its_arrivals(server: FakeOpenAI) -> None:
    first, second, other = [
        {
            row.index: row.scheduled_s
            for row in (await run_load(plan(server, rate=200.0, duration_s=0.1, seed=seed))).rows
        }
        for seed in (7, 7, 8)
    ]
    assert first and first == second != other
    assert max(first.values()) < 0.1


async def test_a_streamed_answer_is_timed_and_costed(server: FakeOpenAI) -> None:
    (row,) = (await run_load(plan(server, requests=1, concurrency=1, api_key="sk-test"))).rows
    assert row.first_byte_s is not None
    assert row.scheduled_s <= row.sent_s < row.first_byte_s <= row.chunks_s[0] <= row.chunks_s[-1] <= row.last_s
    assert len(row.chunks_s) == len(TOKENS)
    assert (row.status, row.finish_reason, row.prompt_tokens, row.completion_tokens) == (200, "stop", 7, 3)
    assert row.cost == COST
    assert server.keys == ["Bearer sk-test"]
    assert server.bodies[0]["stream_options"] == {"include_usage": True}


async def test_a_whole_answer_is_costed_from_its_body(server: FakeOpenAI) -> None:
    (row,) = (await run_load(plan(server, requests=1, concurrency=1, stream=False))).rows
    assert (row.outcome, row.chunks_s, row.cost, row.completion_tokens) == ("answered", (), COST, 3)


@pytest.mark.parametrize("stream", [True, False])
async def test_an_abstention_is_its_own_outcome(server: FakeOpenAI, stream: bool) -> None:
    result = await run_load(plan(server, model="abstains", requests=1, stream=stream))
    assert [row.outcome for row in result.rows] == ["abstained"]


@pytest.mark.parametrize(
    ("model", "outcome", "words"),
    [
        ("undone", "truncated", "without data: [DONE]"),
        ("cut", "truncated", ""),
        ("breaks", "error_event", "engine lost"),
        ("garbage", "bad_response", "<html>"),
        ("fails", "http_error", "engine down"),
        ("hangs", "timeout", "0.2 s"),
    ],
)
async def test_a_broken_answer_is_never_a_success(server: FakeOpenAI, model: str, outcome: str, words: str) -> None:
    result = await run_load(plan(server, model=model, requests=1, concurrency=1, timeout_s=0.2))
    (row,) = result.rows
    assert row.outcome == outcome
    assert words in str(row.error)
    summary = summarise(result)
    assert (summary.answered_per_s, summary.e2e) == (0.0, None)


async def test_unreachable_endpoint_is_one_line_that_says_what_to_do(unused_tcp_port: int) -> None:
    nowhere = FakeOpenAI()
    nowhere.url = f"http://127.0.0.1:{unused_tcp_port}/v1"
    with pytest.raises(EndpointError, match="make serve") as caught:
        await run_load(plan(nowhere))
    assert "\n" not in str(caught.value)


async def test_wrong_key_and_wrong_model_stop_before_the_load(server: FakeOpenAI) -> None:
    with pytest.raises(EndpointError, match="refused the key 'default'"):
        await run_load(plan(server, api_key="wrong"))
    with pytest.raises(EndpointError, match="no model 'nobody'; it serves whole"):
        await run_load(plan(server, model="nobody"))
    assert server.bodies == []


@pytest.mark.parametrize("name", ["first.jsonl", "first.jsonl.gz"])
async def test_rows_survive_the_file_and_never_replace_an_earlier_run(
    server: FakeOpenAI, tmp_path: Path, name: str
) -> None:
    raw = tmp_path / "runs" / name
    its_plan = plan(server, slo=Slo(e2e_s=1.0), api_key="sk-secret")
    origin = Origin.here("breakeven bench")
    with ResultsFile(raw, origin) as file:
        results = tuple([await run_load(its_plan, file=file, labels={"repeat": repeat}) for repeat in range(2)])
    assert read_results(raw) == Results(origin, results)
    assert summarise(read_results(raw).runs[1]) == summarise(results[1])
    written = raw.read_bytes() if name == "first.jsonl" else gzip.decompress(raw.read_bytes())
    assert b"sk-secret" not in written
    assert "sk-secret" not in repr(its_plan)
    with pytest.raises(PlanError, match="already holds results"):
        ResultsFile(raw, origin)
    with pytest.raises(PlanError, match="is no results file"):
        read_results(Path(__file__))


async def test_an_interrupted_run_is_no_result(server: FakeOpenAI, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    with ResultsFile(whole, Origin.here("breakeven bench")) as file:
        await run_load(plan(server), file=file)
    cut.write_bytes(b"".join(whole.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(PlanError, match="interrupted"):
        read_results(cut)


async def test_bench_stores_prints_and_cleans_up(server: FakeOpenAI, tmp_path: Path) -> None:
    page = io.StringIO()
    raw = tmp_path / "run.jsonl"
    (summary,) = await asyncio.to_thread(bench, plan(server), raw, Console(file=page, width=120))
    assert summary.outcomes == {"answered": 4}
    assert "4 answered" in page.getvalue()
    assert len(read_results(raw).runs[0].rows) == 4
    unsent = tmp_path / "unsent.jsonl"
    with pytest.raises(BenchmarkError):
        await asyncio.to_thread(bench, plan(server, model="nobody"), unsent)
    assert not unsent.exists()


async def test_away_from_a_terminal_a_line_is_printed_now_and_then(server: FakeOpenAI) -> None:
    page = io.StringIO()
    showing = show(Tally(sent=3, ended=2, failed=1), plan(server), Console(file=page), lambda: 7.2, line_every_s=0.02)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(showing, 0.1)
    assert page.getvalue().count("bench: 7 s, 3 sent, 2 ended, 1 failed, 1 in flight\n") >= 2


async def test_on_a_terminal_a_bar_is_shown(server: FakeOpenAI) -> None:
    server.wait_s = 0.3
    page = io.StringIO()
    await run_load(plan(server, requests=2), Console(file=page, force_terminal=True, width=120))
    assert "2 in flight" in page.getvalue()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"url": "127.0.0.1:8000"}, "must start with http"),
        ({"load": Replay((0.0,), "trace.csv")}, "leave --duration and --requests out"),
        ({"targets": ()}, "at least one --model"),
        ({"duration_s": 1.0, "requests": 1}, "either --duration"),
        ({"concurrency": 0}, "at least 1"),
        ({"stream": False, "slo": Slo(ttft_s=1.0)}, "need streaming"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    fake = FakeOpenAI()
    fake.url = "http://127.0.0.1:1/v1"
    with pytest.raises(PlanError, match=words):
        plan(fake, **changes)
