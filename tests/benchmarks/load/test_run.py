"""The load generator against a small OpenAI server that can misbehave, over real sockets on loopback."""

import asyncio
import io
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from rich.console import Console

from benchmarks.errors import BenchmarkError, EndpointError, PlanError
from benchmarks.load.arrivals import Closed, Open
from benchmarks.load.experiment import bench
from benchmarks.load.plan import LoadPlan, Slo, Target, Tenant
from benchmarks.load.progress import Tally, show
from benchmarks.load.run import run_load
from benchmarks.load.summary import summarise
from benchmarks.load.workload import synthetic

COST = {"allocation_usd": "0.0000300000", "usage_usd": "0.0000100000"}
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
TOKENS = ("one", " two", " three")

Write = Callable[[object], Awaitable[None]]


class FakeOpenAI:
    """Answers three tokens; the model's name says how it goes wrong."""

    def __init__(self) -> None:
        self.url = ""
        self.wait_s = 0.0
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.connections: set[object] = set()
        self.now = 0
        self.most = 0

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/v1/models", self._models), web.post("/v1/chat/completions", self._chat)])
        return app

    async def _models(self, request: web.Request) -> web.Response:
        if request.headers.get("Authorization") == "Bearer wrong":
            return web.json_response({"error": {"message": "no"}}, status=401)
        names = ("whole", "abstains", "cut", "undone", "breaks", "fails", "garbage", "hangs")
        return web.json_response({"object": "list", "data": [{"id": name} for name in names]})

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = orjson.loads(await request.read())
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        self.connections.add(request.transport)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            await asyncio.sleep(60 if body["model"] == "hangs" else self.wait_s)
            if body["model"] == "fails":
                return web.json_response({"error": {"message": "engine down"}}, status=503)
            return await (self._stream(request, body["model"]) if body["stream"] else self._whole(body["model"]))
        finally:
            self.now -= 1

    async def _whole(self, model: str) -> web.Response:
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
        extension = {"cost": COST, "abstained": model == "abstains"}
        return web.json_response({"choices": [choice], "usage": USAGE, "breakeven": extension})

    async def _stream(self, request: web.Request, model: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        async def write(event: object) -> None:
            await response.write(b"data: " + orjson.dumps(event) + b"\n\n")

        await write({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        for token in TOKENS:
            await write({"choices": [{"index": 0, "delta": {"content": token}}]})
        if model == "cut" and request.transport is not None:
            request.transport.close()
        elif model == "garbage":
            await response.write(b"data: <html>\n\n")
        elif model == "breaks":
            await write({"error": {"message": "engine lost"}})
        elif model != "undone":
            await self._end(response, write, abstained=model == "abstains")
        return response

    async def _end(self, response: web.StreamResponse, write: Write, *, abstained: bool) -> None:
        extension = {"cost": COST, "abstained": abstained}
        await write({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "breakeven": extension})
        await write({"choices": [], "usage": USAGE})
        await response.write(b"data: [DONE]\n\n")


@pytest.fixture
async def server() -> AsyncIterator[FakeOpenAI]:
    fake = FakeOpenAI()
    runner = web.AppRunner(fake.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield fake
    await runner.cleanup()


def plan(server: FakeOpenAI, model: str = "whole", concurrency: int = 2, **changes: Any) -> LoadPlan:
    plain: dict[str, Any] = {"load": Closed(concurrency), "requests": None if "duration_s" in changes else 4}
    if "rate" in changes:
        plain["load"] = Open(changes.pop("rate"), changes.pop("burstiness", 1.0))
    if key := changes.pop("api_key", None):
        plain["tenants"] = (Tenant("default", key),)
    return LoadPlan(**{"url": server.url, "targets": (Target(model),), "workload": synthetic(5), **plain, **changes})


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
async def test_the_connection_pool_holds_nothing_back(server: FakeOpenAI, load: dict[str, float]) -> None:
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
    with pytest.raises(EndpointError, match="--api-key"):
        await run_load(plan(server, api_key="wrong"))
    with pytest.raises(EndpointError, match="no model 'nobody'; it serves whole"):
        await run_load(plan(server, model="nobody"))
    assert server.bodies == []


async def test_rows_survive_the_file_and_never_replace_an_earlier_run(server: FakeOpenAI, tmp_path: Path) -> None:
    raw = tmp_path / "runs" / "first.jsonl"
    its_plan = plan(server, slo=Slo(e2e_s=1.0), api_key="sk-secret")
    header = describe(its_plan)
    with RowFile(raw, header) as rows:
        result = await run_load(its_plan, keep=rows.write, header=header)
    assert read_rows(raw) == result
    assert summarise(read_rows(raw)) == summarise(result)
    assert "sk-secret" not in raw.read_text() + repr(its_plan)
    with pytest.raises(PlanError, match="already holds a run"):
        RowFile(raw, header)
    with pytest.raises(PlanError, match="not a load run's raw file"):
        read_rows(Path(__file__))


async def test_bench_stores_prints_and_cleans_up(server: FakeOpenAI, tmp_path: Path) -> None:
    page = io.StringIO()
    raw = tmp_path / "run.jsonl"
    summary = await asyncio.to_thread(bench, plan(server), raw, Console(file=page, width=120))
    assert summary.outcomes == {"answered": 4}
    assert "4 answered" in page.getvalue()
    assert len(read_rows(raw).rows) == 4
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
        ({"rate": 1.0, "concurrency": 1}, "either --concurrency"),
        ({"concurrency": None}, "either --concurrency"),
        ({"duration_s": 1.0, "requests": 1}, "either --duration"),
        ({"concurrency": 0}, "above zero"),
        ({"stream": False, "slo": Slo(ttft_s=1.0)}, "--slo-ttft needs streaming"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    fake = FakeOpenAI()
    fake.url = "http://127.0.0.1:1/v1"
    with pytest.raises(PlanError, match=words):
        plan(fake, **changes)
