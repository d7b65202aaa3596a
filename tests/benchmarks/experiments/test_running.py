"""Experiments against a small OpenAI server: whatever interrupts them costs one cell, and nothing foreign gets in."""

import asyncio
from collections.abc import AsyncIterator
from io import StringIO
from pathlib import Path

import pytest
import yaml
from aiohttp import web
from rich.console import Console

from benchmarks.errors import BenchmarkError, EndpointError, ResultsError
from benchmarks.experiments.plan import ExperimentPlan, read_plan
from benchmarks.experiments.results import Experiment, read_experiment
from benchmarks.experiments.running import Endpoint, run_experiment
from tests.benchmarks.load.fake_openai import FakeOpenAI

STEPS = [
    {"id": "rates", "kind": "sweep", "model": "whole", "rate": [20, 40], "requests": 6},
    {"id": "sides", "kind": "compare", "concurrency": 1, "requests": 5, "prompt_tokens": 8,
     "variants": {"one": {"model": "whole"}, "other": {"model": "whole", "max_tokens": 3}}},
]  # fmt: skip


@pytest.fixture
async def fake() -> AsyncIterator[FakeOpenAI]:
    server = FakeOpenAI()
    runner = web.AppRunner(server.app())
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield server
    await runner.cleanup()


def plan(tmp_path: Path, steps: object = STEPS) -> ExperimentPlan:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({"name": "tiny", "objectives": {"e2e_s": 5}, "steps": steps}, sort_keys=False))
    return read_plan(path)


async def ran(made: ExperimentPlan, fake: FakeOpenAI, out: Path, key: str | None = None) -> tuple[Experiment, str]:
    said = StringIO()
    console = Console(file=said, width=200)
    held = await run_experiment(made, Endpoint(fake.url, api_key=key), out, console, "breakeven experiment run tiny")
    return held, said.getvalue()


async def test_every_cell_is_run_and_labelled(tmp_path: Path, fake: FakeOpenAI) -> None:
    held, said = await ran(plan(tmp_path), fake, tmp_path / "out.jsonl.gz")
    assert [run.cell for run in held.runs] == ["rates/rate=20", "rates/rate=40", "sides/one", "sides/other"]
    assert [len(run.rows) for run in held.runs] == [6, 6, 5, 5]
    assert (held.plan, held.cells, held.origin.command) == ("tiny", 4, "breakeven experiment run tiny")
    assert held.runs[0].grew("breakeven_requests_total") == 6
    assert "[1/4] rates/rate=20, about 0:" in said
    assert not (tmp_path / "out.jsonl.gz.parts").exists()


async def test_it_goes_on_where_it_was_interrupted(tmp_path: Path, fake: FakeOpenAI) -> None:
    made, out = plan(tmp_path), tmp_path / "out.jsonl.gz"
    fake.wait_s = 0.2
    task = asyncio.create_task(ran(made, fake, out))
    async with asyncio.timeout(20):
        while not list((tmp_path / "out.jsonl.gz.parts").glob("001-*")):  # noqa: ASYNC110  # files set no event
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not out.exists()
    asked, fake.wait_s = len(fake.bodies), 0.0
    held, said = await ran(made, fake, out)
    assert "going on: 1 of 4 cells are there already" in said
    assert len(fake.bodies) - asked == 6 + 5 + 5
    assert [len(run.rows) for run in held.runs] == [6, 6, 5, 5]


async def test_what_a_kill_left_of_a_cell_is_measured_again(tmp_path: Path, fake: FakeOpenAI) -> None:
    made, out = plan(tmp_path), tmp_path / "out.jsonl.gz"
    folder = tmp_path / "out.jsonl.gz.parts"
    await ran(made, fake, tmp_path / "other.jsonl.gz")
    folder.mkdir()
    (folder / "000-rates-rate-20.jsonl").write_bytes(b'{"format": "breakeven-load/1", "ori')
    held, said = await ran(made, fake, out)
    assert "going on" not in said
    assert len(held.runs) == 4


async def test_a_finished_experiment_is_not_measured_again(tmp_path: Path, fake: FakeOpenAI) -> None:
    made, out = plan(tmp_path), tmp_path / "out.jsonl.gz"
    await ran(made, fake, out)
    before, asked = out.read_bytes(), len(fake.bodies)
    held, _ = await ran(made, fake, out)
    assert len(held.runs) == 4
    assert (out.read_bytes(), len(fake.bodies)) == (before, asked)


async def test_another_plan_does_not_get_into_the_file(tmp_path: Path, fake: FakeOpenAI) -> None:
    out = tmp_path / "out.jsonl.gz"
    await ran(plan(tmp_path), fake, out)
    with pytest.raises(ResultsError, match="another plan"):
        await ran(plan(tmp_path, STEPS[:1]), fake, out)
    parts = tmp_path / "fresh.jsonl.gz.parts"
    parts.mkdir()
    (parts / "plan.json").write_text('{"digest": "of another"}')
    with pytest.raises(ResultsError, match="beginning of another plan"):
        await ran(plan(tmp_path), fake, tmp_path / "fresh.jsonl.gz")
    (parts / "plan.json").write_text("{")
    with pytest.raises(ResultsError, match="damaged"):
        await ran(plan(tmp_path), fake, tmp_path / "fresh.jsonl.gz")


async def test_a_file_of_something_else_is_not_overwritten(tmp_path: Path, fake: FakeOpenAI) -> None:
    out = tmp_path / "out.jsonl.gz"
    out.write_bytes(b"mine")
    with pytest.raises(BenchmarkError):
        await ran(plan(tmp_path), fake, out)
    assert out.read_bytes() == b"mine"


async def test_a_dead_model_stops_it_and_keeps_the_rest(tmp_path: Path, fake: FakeOpenAI) -> None:
    steps = [STEPS[0], {"id": "bad", "kind": "closed", "model": "fails", "concurrency": 1, "requests": 2}]
    out = tmp_path / "out.jsonl.gz"
    with pytest.raises(ResultsError, match="what was finished is kept"):
        await ran(plan(tmp_path, steps), fake, out)
    assert len(list((tmp_path / "out.jsonl.gz.parts").glob("*.jsonl"))) == 2


async def test_an_endpoint_that_is_not_there_is_one_line(tmp_path: Path, fake: FakeOpenAI) -> None:
    fake.url = "http://127.0.0.1:1/v1"
    with pytest.raises(EndpointError, match="cannot reach"):
        await ran(plan(tmp_path), fake, tmp_path / "out.jsonl.gz")


async def test_prompts_that_are_not_there_are_found_before_anything_is_sent(tmp_path: Path, fake: FakeOpenAI) -> None:
    steps = [STEPS[0], {**STEPS[0], "id": "later", "prompts": "none.jsonl"}]
    with pytest.raises(BenchmarkError, match=r"none\.jsonl"):
        await ran(plan(tmp_path, steps), fake, tmp_path / "out.jsonl.gz")
    assert fake.bodies == []


async def test_a_key_is_sent_and_never_kept(tmp_path: Path, fake: FakeOpenAI) -> None:
    out = tmp_path / "out.jsonl"
    await ran(plan(tmp_path), fake, out, key="bk-secret")
    assert set(fake.keys) == {"Bearer bk-secret"}
    assert b"bk-secret" not in out.read_bytes()
    assert read_experiment(out).runs
